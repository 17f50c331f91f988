# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Parameters and multiply-adds."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cgrseg_hf.benchmark import BenchmarkSettings, count_model, format_report, make_report, run_benchmark


class Counted(nn.Module):
    """A convolution, a linear layer and a product of activations."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.linear = nn.Linear(4, 5)
        self.batch_norm = nn.BatchNorm1d(6)  # learned, but not counted as computing

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        hidden_states = self.convolution(pixel_values).flatten(2).transpose(1, 2)  # (batch, pixels, 4)
        hidden_states = self.linear(hidden_states)  # (batch, pixels, 5)
        return SimpleNamespace(logits=hidden_states @ hidden_states.transpose(1, 2))


def test_each_kind_is_counted_by_itself():
    count = count_model(Counted(), (2, 8))
    pixels = 2 * 8
    assert count.parameters == (3 * 3 * 3 * 4 + 4) + (4 * 5 + 5) + 2 * 6
    assert count.convolutions == pixels * 3 * 3 * 3 * 4
    assert count.linear_layers == pixels * 4 * 5
    assert count.other_products == pixels * pixels * 5
    assert count.everything == count.convolutions + count.linear_layers + count.other_products


def test_counts_agree_with_the_paper():
    result = run_benchmark(BenchmarkSettings(models=["t", "segformer-b0"], rounds=0))
    assert not result.measurements
    cgrseg, segformer = make_report(result)["counts"]
    assert cgrseg["paper"] == {"parameters": 9.4, "multiply_adds": 4.0}
    assert segformer["paper"] == {"parameters": 3.8, "multiply_adds": 8.4}
    assert cgrseg["parameters"] == 9_364_647
    assert segformer["parameters"] / 1e6 == pytest.approx(3.8, abs=0.06)
    # The authors count a little more for CGRSeg: its literal rendering, and each bias.
    assert cgrseg["convolutions"] / 1e9 == pytest.approx(4.0, abs=0.1)
    assert segformer["everything"] / 1e9 == pytest.approx(8.4, abs=0.1)
    assert "9.4 M, 4.0 G" in format_report(result)
    elsewhere = run_benchmark(BenchmarkSettings(models=["t"], sizes=[(256, 256)], rounds=0))
    assert make_report(elsewhere)["counts"][0]["paper"] is None  # the paper has no other size
