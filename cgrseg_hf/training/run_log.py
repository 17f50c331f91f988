# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The log of a run: `log.jsonl`, and the same in Accelerate's trackers."""

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from .checkpoints import explain_failed_write, write_file
from .config import TrainingConfig


def find_trackers(trackers: str) -> list[str] | None:
    """
    Split the names of trackers, and check that they are installed.

    Raises:
        ValueError: If one is not; except for the default, TensorBoard, which has nothing that log.jsonl has not.
    """
    names = [name.strip() for name in trackers.split(",") if name.strip() not in ("", "none")]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing == ["tensorboard"] == names:
        return None
    if missing:
        raise ValueError(f"The tracker {missing[0]} is not installed: pip install {missing[0]}, or --trackers none.")
    return names or None


class RunLog:
    """
    Write each entry as a line of JSON to `log.jsonl`, and to the trackers.

    Args:
        config ([`TrainingConfig`]): The run's configuration.
        accelerator (`Accelerator`): Knows the trackers; only its main process writes.
        step (`int`): Steps done so far. Later entries are of steps that will be repeated, and are removed.
    """

    def __init__(self, config: TrainingConfig, accelerator: Accelerator, step: int = 0):
        self._accelerator = accelerator
        self._path = Path(config.output) / "log.jsonl"
        self._file = None
        if accelerator.is_main_process:
            lines = self._path.read_text(encoding="utf-8").splitlines() if step and self._path.exists() else []
            write_file(self._path, "".join(line + "\n" for line in lines if _step_of(line) <= step))
            self._file = self._path.open("a", encoding="utf-8")
        if accelerator.log_with:
            values = {name: value for name, value in config.to_dict().items() if isinstance(value, int | float | str)}
            accelerator.init_trackers("cgrseg", config=values)

    def write(self, step: int, values: dict[str, Any]) -> None:
        """
        Add an entry.

        Raises:
            OSError: If writing fails; the message names the file.
        """
        self._accelerator.log(values, step=step)
        if self._file is not None:
            with explain_failed_write(self._path):
                self._file.write(json.dumps({"step": step, **values}) + "\n")
                self._file.flush()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *exception: object) -> None:
        # Not by `end_training`, which would end the group of processes too. A full disk was reported by `write`.
        with contextlib.suppress(OSError):
            for tracker in self._accelerator.trackers:
                tracker.finish()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):  # the process ended while it wrote this line
        return float("inf")
