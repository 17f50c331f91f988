# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Many clients at a time, each answer judged, and what the process that answers them takes."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import psutil

Outcome = Literal["right", "wrong", "refused"]
# Asks once, as one of the clients and with that client's random choices.
Ask = Callable[[int, random.Random], Outcome]

# Parts of the time after which memory has found its level, and how often it is looked at.
_WARM_UP = 0.1
_SAMPLES = 300
# How much memory may grow after that: what Python and the C library keep in between varies by so much.
_MAY_GROW = 1.2


@dataclass
class Load:
    """
    What came of a load.

    Args:
        name (`str`): What was asked.
        clients (`int`), seconds (`float`): How many asked at a time, and for how long.
        outcomes (`Counter`): Answers of each kind.
        errors (`list[str]`): What was raised instead of an answer.
        said_wrong (`list[str]`): What wrong answers said, where whoever judges them keeps it.
        latencies (`list[float]`): Seconds that each answer took; refusals do not count.
        memory (`list[int]`): Resident bytes of the process that answers, at the beginning and at even intervals.
    """

    name: str
    clients: int
    seconds: float
    outcomes: Counter = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    said_wrong: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def answers(self) -> int:
        """Answers, right and wrong."""
        return self.outcomes["right"] + self.outcomes["wrong"]

    @property
    def failures(self) -> int:
        """Wrong answers and errors."""
        return self.outcomes["wrong"] + len(self.errors)

    @property
    def warm_memory(self) -> int:
        """Resident bytes after the first tenth of the time."""
        return self.memory[round(_WARM_UP * (len(self.memory) - 1))]

    @property
    def is_memory_bounded(self) -> bool:
        """Whether the last tenth of the time took no more memory than the first, but for some percent."""
        return float(np.median(self.memory[-max(len(self.memory) // 10, 1) :])) <= _MAY_GROW * self.warm_memory

    def milliseconds(self, percent: float) -> int:
        """Milliseconds in which so many percent of the answers came."""
        return round(1000 * float(np.percentile(self.latencies, percent)))

    def to_row(self) -> list[Any]:
        """
        A line of figures: name, clients, minutes, answers, refused, wrong, errors, answers per second, p50, p95 and p99
        in milliseconds, and memory in MiB at the start, after warming up, at its peak and at the end.
        """
        start, warm, peak, end = (
            f"{bytes_ / 2**20:.0f}" for bytes_ in (self.memory[0], self.warm_memory, max(self.memory), self.memory[-1])
        )
        return [
            self.name,
            self.clients,
            f"{self.seconds / 60:.0f}",
            f"{self.answers:,}",
            f"{self.outcomes['refused']:,}",
            self.outcomes["wrong"],
            len(self.errors),
            f"{self.answers / self.seconds:.1f}",
            *(f"{self.milliseconds(percent):,}" for percent in (50, 95, 99)),
            f"{start} / {warm} / {peak} / {end}",
        ]


def put_load(name: str, ask: Ask, clients: int, seconds: float, pid: int) -> Load:
    """
    Let clients ask at the same time, each as soon as it has its answer, until the time is over.

    Args:
        name (`str`): What is asked.
        ask (`Callable`): Asks once and judges the answer; called in as many threads as there are clients.
        clients (`int`), seconds (`float`): How many, and for how long.
        pid (`int`): The process whose memory is looked at.
    """
    load = Load(name, clients, seconds)
    process = psutil.Process(pid)
    load.memory.append(process.memory_info().rss)
    together = threading.Barrier(clients + 1)
    lock = threading.Lock()
    over = threading.Event()

    def run(client: int) -> None:
        choices = random.Random(client)
        together.wait()
        while not over.is_set():
            begin = time.monotonic()
            try:
                outcome = ask(client, choices)
            except Exception as error:
                with lock:
                    load.errors.append(f"{type(error).__name__}: {error}")
                continue
            with lock:
                load.outcomes[outcome] += 1
                if outcome != "refused":
                    load.latencies.append(time.monotonic() - begin)

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(run, client) for client in range(clients)]
        together.wait()
        begin = time.monotonic()
        for sample in range(1, _SAMPLES + 1):
            over.wait(max(begin + seconds * sample / _SAMPLES - time.monotonic(), 0))
            load.memory.append(process.memory_info().rss)
        over.set()
        for one in running:
            one.result()
    load.seconds = time.monotonic() - begin  # with the last answers
    return load
