# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints that are whole or not there.

A checkpoint is written under another name and renamed when all of it is on the disk, so whatever ends the process, each
folder `step-...` is one to go on from. It is a model folder too: `from_pretrained` loads it.
"""

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from ..conversion.files import read_checkpoint

_STATE = "training_state.pt"
_RANDOM_STATE = "random_state_{}.pt"
_UNFINISHED = "unfinished-"
_REPLACED = "replaced-"


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """
    Make a folder, or replace one, so that it is never seen half written.

    Args:
        folder (`Path`): Where it shall be.
        write (`Callable`): Fills the empty folder that it is given.

    Raises:
        OSError: If the disk does not take it; the message names the folder, and nothing is left of it.
    """
    unfinished = folder.with_name(_UNFINISHED + folder.name)
    shutil.rmtree(unfinished, ignore_errors=True)
    with explain_failed_write(folder, unfinished):
        unfinished.mkdir(parents=True)
        write(unfinished)
        finish_folder(unfinished, folder)


def write_file(path: Path, text: str) -> None:
    """
    Write a text file, or replace one, so that it is never seen half written.

    Raises:
        OSError: If the disk does not take it; the message names the file, which is as it was before.
    """
    unfinished = path.with_name(_UNFINISHED + path.name)
    with explain_failed_write(path, unfinished):
        unfinished.write_text(text, encoding="utf-8")
        _flush(unfinished)
        unfinished.replace(path)


@contextlib.contextmanager
def explain_failed_write(path: Path, unfinished: Path | None = None) -> Iterator[None]:
    """
    Name what could not be written, and why, whatever the library that wrote calls it.

    Args:
        path (`Path`): What was to be written.
        unfinished (`Path`, *optional*): Under which other name, to remove it: what is half written only fills the disk.

    Raises:
        OSError: Instead of the error that arose.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix("Error while serializing: ")
        with contextlib.suppress(OSError):
            reason = f"{reason}; {shutil.disk_usage(path.parent).free / 2**20:.1f} MiB are free"
        if unfinished is not None:
            _remove(unfinished)
        raise OSError(
            f"{path} cannot be written ({reason}). Make room there, or move the run's folder to another disk."
        ) from error


def finish_folder(unfinished: Path, folder: Path) -> None:
    """Give a written folder its name, after its files have reached the disk."""
    for path in unfinished.rglob("*"):
        _flush(path)
    replaced = folder.with_name(_REPLACED + folder.name)
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Bring back the former version of a folder where the process ended between two renames."""
    replaced = folder.with_name(_REPLACED + folder.name)
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)


def list_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, the oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / _STATE).exists())


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint after so many steps lies."""
    return folder / f"step-{step:08d}"


def checkpoint_step(path: Path) -> int:
    """After how many steps a checkpoint was written."""
    return int(path.name.removeprefix("step-"))


def save_checkpoint(
    folder: Path,
    step: int,
    save_model: Callable[[Path], None],
    state: dict[str, Any],
    process_index: int = 0,
    wait_for_everyone: Callable[[], None] = lambda: None,
    keep: int = 2,
) -> Path:
    """
    Write a checkpoint and remove the oldest ones. All processes call it.

    Args:
        folder (`Path`): Folder of all checkpoints.
        step (`int`): Steps done.
        save_model (`Callable`): Writes the model folder's files into the folder that it is given.
        state (`dict`): State of optimiser, schedule and whatever else training goes on from.
        process_index (`int`): The main process, 0, writes the model and the state, each its own random state.
        wait_for_everyone (`Callable`): Returns when all processes have come here.
        keep (`int`): How many of the newest checkpoints stay.

    Raises:
        OSError: If the disk does not take it; the message names the checkpoint, and nothing is left of it.
    """
    path = checkpoint_path(folder, step)
    unfinished = path.with_name(_UNFINISHED + path.name)
    if process_index == 0:
        for left_over in folder.glob(_UNFINISHED + "*"):
            shutil.rmtree(left_over)
    wait_for_everyone()
    with explain_failed_write(path, unfinished):
        unfinished.mkdir(parents=True, exist_ok=True)  # on every node, where they share no disk
        _save(_random_state(), unfinished / _RANDOM_STATE.format(process_index))
        if process_index == 0:
            save_model(unfinished)
            _save(state, unfinished / _STATE)
    wait_for_everyone()
    if process_index == 0:
        with explain_failed_write(path, unfinished):
            finish_folder(unfinished, path)
        for old in list_checkpoints(folder)[:-keep]:
            # Renamed first: a folder that is half removed must not look like a checkpoint.
            doomed = old.with_name(_UNFINISHED + old.name)
            old.rename(doomed)
            shutil.rmtree(doomed)
    wait_for_everyone()
    return path


def load_state(path: Path) -> dict[str, Any]:
    """
    The state that a checkpoint was saved with.

    Raises:
        ValueError: If the file holds more than tensors and plain values, or is damaged.
    """
    return _read(path / _STATE)


def restore_random_state(path: Path, process_index: int) -> None:
    """Let this process's generators go on where they were; without a state of this process they stay as they are."""
    file = path / _RANDOM_STATE.format(process_index)
    if not file.exists():  # saved by fewer processes
        return
    state = _read(file)
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
    kind, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, state["numpy_keys"].numpy(), position, has_gauss, cached))
    random.setstate(state["python"])


def _save(state: dict[str, Any], path: Path) -> None:
    """
    Write a state to a file.

    Raises:
        OSError: What the system said; PyTorch's writer only tells where in the file it failed.
    """
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _read(file: Path) -> dict[str, Any]:
    """A file of a checkpoint: tensors and plain values alone, since unpickling anything else could run code."""
    try:
        return read_checkpoint(file)
    except ValueError as error:
        raise ValueError(
            f"{error} To go on from an earlier checkpoint, remove the folder {file.parent}; to start anew from its "
            f"weights, train with --model {file.parent}."
        ) from error


def _random_state() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": (kind, *rest),
        "numpy_keys": torch.from_numpy(keys.copy()),
        "python": random.getstate(),
    }


def _remove(path: Path) -> None:
    """Remove a file or a folder, as far as that can be done."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    """Have a file, or a folder's list of files, written to the disk before what follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
