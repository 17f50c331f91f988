# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Processes that read images ahead."""

import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

# What PyTorch says of a worker that ended before its time, and of what ended it, perhaps in the error's cause alone.
_LOST_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (?:is killed|exited)")
_SIGNAL = re.compile(r"is killed by signal: ([^.]+)")
_SECONDS_TO_SIGNAL = 5.0


def prepare_worker(worker_id: int) -> None:
    """
    Make a `DataLoader`'s worker leave signals to the main process, and use one thread.

    Schedulers and terminals signal all processes at once. The main one answers, and needs its workers until it has;
    they end with it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def describe_lost_worker(error: Exception) -> str | None:
    """
    What it means that a `DataLoader`'s worker ended before its time, and what to do; None for any other error.

    PyTorch hears of it by a signal, and raises its error out of whatever the main process is doing just then.
    """
    found = _LOST_WORKER.match(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return None
    signalled = _SIGNAL.search(f"{error} {error.__cause__}")
    how = signalled[1] if signalled else None
    if how == "Bus error":
        remedy = (
            "The shared memory (/dev/shm) is full: enlarge it (for containers --shm-size), or read in the main process "
            "(--num-workers 0)."
        )
    elif how == "Segmentation fault":
        remedy = "A library that decodes pictures failed: --num-workers 0 shows at which file."
    else:
        remedy = (
            "Systems do this where memory runs out, and somebody may have: take fewer such processes (--num-workers), "
            "or smaller batches."
        )
    lost = "was lost" if how is None else f"was lost, killed by signal: {how}"
    return f"A process that reads images ahead (pid {found[1]}) {lost}. {remedy}"


def read_ahead(loader: DataLoader) -> Iterator[Any]:
    """
    What a `DataLoader` gives, and an error that says what to do where one of its workers ends before its time.

    Raises:
        ChildProcessError: If a worker ends before its time.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, EOFError, ConnectionError) as error:
            told = error if isinstance(error, RuntimeError) else _wait_for_signal()
            message = None if told is None else describe_lost_worker(told)
            if message is None:
                raise
            raise ChildProcessError(message) from error
        yield batch


def _wait_for_signal() -> RuntimeError | None:
    """What PyTorch says of a lost worker, which may come later than the end of the connection to it."""
    try:
        time.sleep(_SECONDS_TO_SIGNAL)
    except RuntimeError as error:
        return error
    return None
