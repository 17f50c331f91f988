# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Times of several calls, taken in turns, so that whatever else the machine does meets all of them."""

import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from tqdm.auto import tqdm

Name = TypeVar("Name", bound=Hashable)

WARM_UP_ROUNDS = 2
# Threads of engines keep spinning for a moment after their work, and would take the next call's cores.
_PAUSE_BETWEEN_CALLS = 0.01  # seconds


@dataclass(frozen=True)
class Timing:
    """
    How long a call takes.

    Args:
        seconds (`list[float]`): One measured time for each round, in the rounds' order.
    """

    seconds: list[float]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and 90th percentile in seconds: four of five rounds lie between them."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0]
        deciles = statistics.quantiles(self.seconds, n=10, method="inclusive")
        return deciles[0], deciles[-1]


def measure_in_rounds(
    calls: Mapping[Name, Callable[[int], Any]],
    rounds: int,
    warm_up: int = WARM_UP_ROUNDS,
    seed: int = 0,
    progress: bool = False,
) -> dict[Name, Timing]:
    """
    Time every call once a round, in an order that changes from round to round.

    Args:
        calls (`Mapping[Hashable, Callable[[int], Any]]`):
            What to time, by name. Each is called with the number of the round, from 0 on.
        rounds (`int`):
            How often.
        warm_up (`int`, *optional*, defaults to 2):
            Rounds before these, whose times are not kept.
        seed (`int`, *optional*, defaults to 0):
            Of the order.
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a bar.

    Returns:
        `dict[Hashable, Timing]`: by the names of `calls`. On a GPU each time ends when the GPU has done its work.
    """
    order = list(calls)
    shuffle = random.Random(seed).shuffle  # noqa: S311  (an order, no secret)
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for index in tqdm(range(-warm_up, rounds), unit="round", leave=False, disable=not progress):
        shuffle(order)
        for name in order:
            time.sleep(_PAUSE_BETWEEN_CALLS)
            start = _now()
            result = calls[name](max(index, 0))
            elapsed = _now() - start
            del result  # giving memory back belongs to no call
            if index >= 0:
                seconds[name].append(elapsed)
    return {name: Timing(times) for name, times in seconds.items()}


def _now() -> float:
    """Seconds, when the device has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
