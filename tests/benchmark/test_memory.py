# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Memory of a call."""

import sys

import pytest
import torch

from cgrseg_hf.benchmark import memory
from cgrseg_hf.benchmark.memory import describe_allocator, measure_peak_memory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_peak_of_a_call_is_seen_though_it_is_given_back():
    def use(mebibytes: int) -> None:
        torch.ones(mebibytes * MIB, dtype=torch.uint8)

    measure_peak_memory(lambda: use(1))  # whatever the first call of all sets up
    assert 60 < measure_peak_memory(lambda: use(64)) / MIB < 80  # the system counts pages in bunches
    assert measure_peak_memory(lambda: None) / MIB < 16


def test_systems_that_do_not_tell_run_the_call(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CLEAR_REFS", tmp_path / "proc" / "clear_refs")
    calls = []
    assert measure_peak_memory(lambda: calls.append(1)) is None
    assert calls == [1]


def test_the_allocator_is_named_with_its_settings(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=8589934592")
    assert "GLIBC_TUNABLES=glibc.malloc.trim_threshold=8589934592" in describe_allocator(False)
    assert "is kept" in describe_allocator(True)
