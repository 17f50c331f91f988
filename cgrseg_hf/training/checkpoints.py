# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Files and folders that are either complete or absent.

They are written under another name and renamed once they are on the disk. So whatever ends the process, each folder
`step-...` is a complete checkpoint: the state that Accelerate saves, and a model folder for `from_pretrained`.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from pickle import UnpicklingError

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, load
from safetensors import SafetensorError

from .config import TrainingConfig, load_recipe

CONFIG_FILE = "training_config.json"
_UNFINISHED = "unfinished-"
_REPLACED = "replaced-"


def write_folder(folder: Path, write: Callable[[Path], object], accelerator: Accelerator) -> None:
    """
    Make a folder, or replace it, so that it is never visible half written. All processes call this.

    Args:
        folder (`Path`): The folder.
        write (`Callable`): Writes this process's files into the empty folder that it is called with.
        accelerator (`Accelerator`): Synchronizes the processes.

    Raises:
        OSError: If writing fails; the message names the folder, and nothing is left of it.
    """
    unfinished = folder.with_name(_UNFINISHED + folder.name)
    if accelerator.is_main_process:
        for left_over in folder.parent.glob(_UNFINISHED + "*"):
            _remove(left_over)
    accelerator.wait_for_everyone()
    with explain_failed_write(folder, unfinished):
        unfinished.mkdir(parents=True, exist_ok=True)
        write(unfinished)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        with explain_failed_write(folder, unfinished):
            for path in unfinished.rglob("*"):
                _flush(path)
            replaced = folder.with_name(_REPLACED + folder.name)
            _remove(replaced)
            if folder.exists():
                folder.rename(replaced)
            unfinished.rename(folder)
            _flush(folder.parent)
            _remove(replaced)
    accelerator.wait_for_everyone()


def recover_folder(folder: Path) -> None:
    """Bring back the former version of a folder if the process ended between the two renames of `write_folder`."""
    replaced = folder.with_name(_REPLACED + folder.name)
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)


def write_file(path: Path, text: str) -> None:
    """
    Write a text file, or replace it, so that it is never visible half written.

    Raises:
        OSError: If writing fails; the message names the file, which stays as it was.
    """
    unfinished = path.with_name(_UNFINISHED + path.name)
    with explain_failed_write(path, unfinished):
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        _flush(unfinished)
        unfinished.replace(path)


@contextlib.contextmanager
def explain_failed_write(path: Path, unfinished: Path | None = None) -> Iterator[None]:
    """
    Name the file or folder that could not be written, and the reason, whichever library failed.

    Args:
        path (`Path`): The file or folder.
        unfinished (`Path`, *optional*): Its name while it is written. It is removed, to make room on the disk.

    Raises:
        OSError: In place of the error that arose.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix("Error while serializing: ")
        if isinstance(error, RuntimeError):
            if "inline_container" not in reason:  # PyTorch's writer, which keeps the system's reason to itself
                raise
            reason = "not all of a file was written"
        with contextlib.suppress(OSError):
            reason = f"{reason}; {shutil.disk_usage(path.parent).free / 2**20:.1f} MiB are free"
        if unfinished is not None:
            _remove(unfinished)
        raise OSError(
            f"{path} cannot be written ({reason}). Make room there, or move the run's folder to another disk."
        ) from error


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("step-*"))


def checkpoint_path(folder: Path, step: int) -> Path:
    """Name the checkpoint after a number of steps."""
    return folder / f"step-{step:08d}"


def checkpoint_step(path: Path) -> int:
    """Read the number of steps from a checkpoint's name."""
    return int(path.name.removeprefix("step-"))


def save_checkpoint(folder: Path, step: int, accelerator: Accelerator, keep: int) -> None:
    """
    Save the accelerator's state as a checkpoint, and remove the oldest ones. All processes call this.

    Args:
        folder (`Path`): Folder of all checkpoints.
        step (`int`): Number of steps done.
        accelerator (`Accelerator`): Saves its state.
        keep (`int`): How many of the newest checkpoints stay.

    Raises:
        OSError: As for `write_folder`.
    """
    write_folder(checkpoint_path(folder, step), accelerator.save_state, accelerator)
    if accelerator.is_main_process:
        for old in list_checkpoints(folder)[:-keep]:
            # Renamed first: a folder that is half removed must not look like a checkpoint.
            _remove(old.rename(old.with_name(_UNFINISHED + old.name)))


def load_checkpoint(checkpoint: Path, accelerator: Accelerator) -> None:
    """
    Load a state that `save_checkpoint` saved.

    Raises:
        ValueError: If the checkpoint is damaged, or of a version whose state is not readable; the message says what
            to do.
    """
    if (checkpoint / "training_state.pt").exists() and not (checkpoint / "optimizer.bin").exists():
        raise ValueError(
            f"{checkpoint} was saved by an earlier version of this package, whose training state cannot be loaded any "
            f"more. Resume the run with that version, or start another run from these weights (--model {checkpoint}) "
            "in another folder (--output)."
        )
    random_states = checkpoint / f"random_states_{accelerator.process_index}.pkl"
    try:
        if random_states.exists():  # not if there were fewer processes
            load(random_states)  # Accelerate would ignore a damaged file
        accelerator.load_state(str(checkpoint))
    except (OSError, ValueError, EOFError, RuntimeError, UnpicklingError, SafetensorError) as error:
        reason: object = error
        if isinstance(error, UnpicklingError):  # PyTorch's words advise to allow code
            reason = "a file holds more than tensors and plain values, or is damaged"
        raise ValueError(
            f"{checkpoint} cannot be loaded ({reason}). Remove this folder: --resume then continues from the "
            "checkpoint before it, or from the start if there is none."
        ) from error


def find_checkpoint(config: TrainingConfig, resume: bool, accelerator: Accelerator) -> Path | None:
    """
    Find the checkpoint to resume from, the same in all processes.

    Raises:
        ValueError: If the folder holds a run and `resume` is false, or a run with other values; or if the processes
            do not share the folder.
    """
    output = Path(config.output)
    found = list_checkpoints(output / "checkpoints")
    if found and not resume:
        raise ValueError(
            f"{config.output} holds a run already, whose newest checkpoint is {found[-1].name}: resume it (--resume), "
            "or choose another folder (--output)."
        )
    (newest,) = broadcast_object_list([found[-1] if found else None])
    if newest is None:
        if resume:
            accelerator.print(f"{config.output} holds no checkpoint to resume from: training starts anew.")
        return None
    if newest not in found:
        raise ValueError(f"This process does not see {newest}: {config.output} must be on a disk that all share.")
    if differences := load_recipe(output / CONFIG_FILE).differences(config):
        raise ValueError(
            f"The run in {config.output} was started with other values: {', '.join(differences)}. Resume it with those "
            "values, or start a new run in another folder (--output)."
        )
    return newest


def _remove(path: Path) -> None:
    """Remove a file or a folder, as far as possible."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _flush(path: Path) -> None:
    """Have a file, or a folder's list of files, written to the disk before anything that follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
