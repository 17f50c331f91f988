# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Parameters and multiply-adds."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cgrseg_hf.benchmark import count_model
from cgrseg_hf.benchmark.counting import PAPER_FIGURES
from cgrseg_hf.benchmark.sources import load_source


class Counted(nn.Module):
    """A convolution, a linear layer and a product of activations, whose multiply-adds are easily told."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, kernel_size=3, padding=1)
        self.linear = nn.Linear(4, 5)
        self.batch_norm = nn.BatchNorm1d(6)  # learned, but not counted as computing

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        hidden_states = self.convolution(pixel_values).flatten(2).transpose(1, 2)  # (batch, pixels, 4)
        hidden_states = self.linear(hidden_states)  # (batch, pixels, 5)
        return SimpleNamespace(logits=hidden_states @ hidden_states.transpose(1, 2))


def test_each_kind_is_counted_for_itself():
    model = Counted()
    before = [parameter.clone() for parameter in model.parameters()]
    count = count_model(model, (2, 8))
    pixels = 2 * 8
    assert count.parameters == (3 * 3 * 3 * 4 + 4) + (4 * 5 + 5) + 2 * 6
    assert count.convolutions == pixels * 3 * 3 * 3 * 4
    assert count.linear_layers == pixels * 4 * 5
    assert count.other_products == pixels * pixels * 5
    assert count.everything == count.convolutions + count.linear_layers + count.other_products
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters()))  # the model is where it was


@pytest.mark.parametrize("name", ["t", "segformer-b0"])
def test_counts_are_those_that_the_paper_reports(name):
    source = load_source(name)
    count = count_model(source.model, (512, 512))
    parameters, multiply_adds = PAPER_FIGURES[name]
    assert count.parameters / 1e6 == pytest.approx(parameters, abs=0.06)
    counted = count.everything if name.startswith("segformer") else count.convolutions
    # The authors count a little more of CGRSeg: its literal rendering, and each bias.
    assert counted / 1e9 == pytest.approx(multiply_adds, abs=0.1)


def test_models_without_weights_are_the_same_every_time():
    """Their exports are found again, and nobody else's random numbers change."""
    state = torch.random.get_rng_state()
    first, second = (load_source("xs").model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), state)
