# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Which shapes get copies of a network, and which keep them."""

import random

from cgrseg_hf.engines.shape_cache import _CALLS_REMEMBERED, _KEPT, ShapeCache


def make_cache() -> tuple[ShapeCache[str], list[tuple[int, ...]]]:
    """A cache, and the shapes for which it has made copies."""
    made = []

    def make(shape: tuple[int, ...]) -> str:
        made.append(shape)
        return f"copy for {shape}"

    return ShapeCache(make), made


def test_a_shape_that_comes_often_gets_one_copy():
    cache, made = make_cache()
    answers = [cache.get((1, 3, 64, 64)) for _ in range(10)]
    assert answers == [None, None, *["copy for (1, 3, 64, 64)"] * 8]
    assert made == [(1, 3, 64, 64)]


def test_many_sizes_in_turn_do_not_have_copies_made_over_and_over():
    cache, made = make_cache()
    choices = random.Random(0)
    for _ in range(1000):
        cache.get((choices.randrange(2 * _KEPT),))
    assert len(made) == _KEPT


def test_a_copy_that_is_not_used_for_long_gives_way():
    cache, _ = make_cache()
    for size in range(_KEPT):
        for _ in range(3):
            cache.get((size,))
    for _ in range(_CALLS_REMEMBERED - 3 * _KEPT):
        assert cache.get((_KEPT,)) is None
    for _ in range(3):
        cache.get((_KEPT,))
    assert cache.shapes == [(size,) for size in range(1, _KEPT + 1)]
    assert cache.get((0,)) is None


def test_no_copy_where_nothing_is_gained():
    cache = ShapeCache(lambda shape: None)
    assert {cache.get((1,)) for _ in range(10)} == {None} and cache.shapes == []
