# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Turns, and what is kept of them."""

import pytest

from cgrseg_hf.benchmark import Timing, measure_in_rounds


def test_each_call_has_its_turn_in_every_round():
    calls = []
    timings = measure_in_rounds(
        {name: lambda index, name=name: calls.append((index, name)) for name in ("a", "b", "c")}, rounds=8, warm_up=1
    )
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 8, "b": 8, "c": 8}
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert len(rounds) == 9  # with the warm-up
    for number, of_round in enumerate(rounds):
        assert {index for index, _ in of_round} == {max(number - 1, 0)}
        assert sorted(name for _, name in of_round) == ["a", "b", "c"]
    assert len({tuple(name for _, name in of_round) for of_round in rounds}) > 1  # not always the same neighbours


def test_what_failed_is_heard():
    def fail(_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        measure_in_rounds({"a": fail}, rounds=1)


def test_median_and_spread():
    timing = Timing([float(value) for value in range(10, -1, -1)])
    assert timing.median == 5
    assert timing.spread == (1, 9)
    assert Timing([3.0]).spread == (3, 3)
