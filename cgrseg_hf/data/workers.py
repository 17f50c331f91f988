# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Worker processes that read images ahead."""

import signal
import time
import traceback
from collections.abc import Generator
from typing import Any

import torch
from torch.utils.data import DataLoader

_SECONDS_TO_SIGNAL = 5.0


def prepare_worker(worker_id: int) -> None:
    """
    Make a `DataLoader`'s worker leave signals to the main process, and use one thread.

    Schedulers and terminals signal all processes at once. The main one answers, and needs its workers until then; they
    end with it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def describe_lost_worker(error: BaseException | None) -> str | None:
    """
    Describe the loss of a `DataLoader`'s worker, and what to do; None for any other error.

    PyTorch hears of it by a signal, and raises its error wherever the main process is at that moment.
    """
    if not isinstance(error, RuntimeError) or not str(error).startswith("DataLoader worker (pid"):
        return None
    return describe_lost_worker(error.__cause__) or (  # the cause names the signal
        f"A process that reads images ahead was lost: {str(error).strip().rstrip('.')}. If it was killed, memory may "
        "have run out: use fewer such processes (--num-workers) or smaller batches. After a bus error, enlarge the "
        "shared memory (/dev/shm; for containers --shm-size). After a segmentation fault, --num-workers 0 shows the "
        "file that could not be decoded."
    )


def read_ahead(loader: DataLoader) -> Generator[Any, None, None]:
    """
    Yield the batches of a `DataLoader`, and say what to do if one of its workers is lost.

    Raises:
        ChildProcessError: If a worker ends before its time.
    """
    batches = iter(loader)
    try:
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except RuntimeError as error:
                _raise_lost_worker(error)
                raise
            except (EOFError, ConnectionError):
                # The connection to a worker can break moments before PyTorch hears, by a signal, that the worker ended.
                try:
                    time.sleep(_SECONDS_TO_SIGNAL)
                except RuntimeError as error:
                    _raise_lost_worker(error)
                raise
            yield batch
    except Exception as error:
        # The workers end when the loader's iterator is freed: nothing in the error's traceback may keep it.
        failure: BaseException | None = error
        while failure is not None:
            traceback.clear_frames(failure.__traceback__)
            failure = failure.__cause__ or failure.__context__
        raise
    finally:
        del batches


def _raise_lost_worker(error: RuntimeError) -> None:
    if (message := describe_lost_worker(error)) is not None:
        raise ChildProcessError(message) from error
