# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What ends a run early: signals, and errors that name the cause, the step and the checkpoint to resume from."""

import re
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.workers import describe_lost_worker
from .checkpoints import checkpoint_step, list_checkpoints

# How gloo and NCCL say that the other end of a connection is gone.
_LOST_PROCESS = re.compile(r"connection (was )?(closed|reset|refused)|remote process exited|broken pipe", re.IGNORECASE)


class TrainingStoppedError(ValueError):
    """Training cannot continue; the message says why, after which step, and names the last checkpoint."""


class StopSignals:
    """
    Remember SIGTERM and SIGINT instead of ending the process; a second SIGINT, from the keyboard, ends it as usual.

    In a thread other than the main one signals cannot be caught, and nothing is remembered.

    Attributes:
        caught (`int`, *optional*): The first signal that came.
    """

    def __init__(self):
        self.caught: int | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: Any) -> None:
        if self.caught is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.caught = self.caught or number


def describe_divergence(
    problem: str, checkpoint_folder: Path, last_finite_step: int, image_names: Sequence[str]
) -> TrainingStoppedError:
    """
    Make the error for a run whose numbers are not finite any more. To resume it would only repeat that.

    Args:
        problem (`str`): What is not finite, and at which step.
        checkpoint_folder (`Path`): Folder of the run's checkpoints.
        last_finite_step (`int`): The last step with a finite loss. A checkpoint of this step or a later one may hold
            weights that are finite and yet useless.
        image_names (`Sequence[str]`): This process's images of the step.
    """
    good = [path for path in list_checkpoints(checkpoint_folder) if checkpoint_step(path) < last_finite_step]
    images = f" The images of this process were {', '.join(image_names)}." if image_names else ""
    last = f"The last good checkpoint is {good[-1]}." if good else "There is no good checkpoint."
    start = f"start from those weights, --model {good[-1]}" if good else "start anew"
    return TrainingStoppedError(
        f"{problem}.{images} {last} If the images are sound, lower --learning-rate, set --max-grad-norm, or use "
        f"--precision float32 or bfloat16. As that makes it another run, {start}, in another folder (--output)."
    )


def describe_end(
    error: Exception, checkpoint_folder: Path, step: int, num_processes: int
) -> TrainingStoppedError | None:
    """
    Make the error for a run that was ended by a cause outside the code; None where only a traceback helps.

    Args:
        error (`Exception`): The error that arose.
        checkpoint_folder (`Path`): Folder of the run's checkpoints.
        step (`int`): Steps done.
        num_processes (`int`): Number of processes that train.
    """
    if isinstance(error, TrainingStoppedError):
        return None
    if isinstance(error, ValueError | OSError):
        reason = str(error)
    elif num_processes > 1 and _LOST_PROCESS.search(str(error)):
        reason = "Another process of this run has ended: its own message, or the launcher's, says why."
    else:
        reason = describe_lost_worker(error)
    if reason is None:
        return None
    found = list_checkpoints(checkpoint_folder)
    when = f"after step {step}" if step else "before its first step"
    last = (
        f"The last checkpoint is {found[-1]}. --resume continues from it." if found else "There is no checkpoint yet."
    )
    return TrainingStoppedError(f"{reason.rstrip('.')}. The run ended {when}. {last}")
