# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What ends a run before its time, and what to tell of it: the cause, the step, and what to go on from."""

import re
from collections.abc import Sequence

from ..data.workers import describe_lost_worker
from .checkpoints import checkpoint_step, list_checkpoints
from .run import TrainingRun

# How gloo and NCCL put it that the other end of a connection is gone.
_LOST_PROCESS = re.compile(r"connection (was )?(closed|reset|refused)|remote process exited|broken pipe", re.IGNORECASE)


class TrainingStoppedError(ValueError):
    """Training cannot go on; the message says why, after which step, and where the last checkpoint is."""


def describe_divergence(
    problem: str, run: TrainingRun, sound_step: int, names: Sequence[str] = ()
) -> TrainingStoppedError:
    """
    An error for a run that has come to numbers that are not finite. Going on as before would come to them again.

    Args:
        problem (`str`): What is not finite, and at which step.
        run ([`TrainingRun`]): The run.
        sound_step (`int`): The last step whose loss was finite. A checkpoint that is no older may hold weights that are
            finite and yet beyond use.
        names (`Sequence[str]`): The images that this process has seen at that step.
    """
    found = [path for path in list_checkpoints(run.checkpoint_folder) if checkpoint_step(path) < sound_step]
    images = f" The images of this process were {', '.join(names)}." if names else ""
    last = f"The last good checkpoint is {found[-1]}." if found else "There is no good checkpoint."
    start = f"start from those weights, --model {found[-1]}" if found else "start anew"
    return TrainingStoppedError(
        f"{problem}.{images} {last} If the images are sound, lower --learning-rate, set --max-grad-norm, or use "
        f"--precision float32 or bfloat16. As that makes it another run, {start}, in another folder (--output)."
    )


def describe_end(error: Exception, run: TrainingRun) -> TrainingStoppedError | None:
    """
    An error that tells what ended a run, for what can be mended from outside; None where only a traceback helps.

    Args:
        error (`Exception`): What arose.
        run ([`TrainingRun`]): The run.
    """
    if isinstance(error, TrainingStoppedError):
        return None
    if isinstance(error, ValueError | OSError):
        reason = str(error)
    elif run.accelerator.num_processes > 1 and _LOST_PROCESS.search(str(error)):
        reason = "Another process of this run has ended: its own message, or the launcher's, says why."
    else:
        reason = describe_lost_worker(error)
    if reason is None:
        return None
    found = list_checkpoints(run.checkpoint_folder)
    when = f"after step {run.step}" if run.step else "before its first step"
    last = f"The last checkpoint is {found[-1]}. --resume goes on from it." if found else "There is no checkpoint yet."
    return TrainingStoppedError(f"{reason.rstrip('.')}. The run ended {when}. {last}")
