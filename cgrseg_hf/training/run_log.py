# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What a run writes down while it goes on, and how it hears that it shall stop."""

import contextlib
import json
import signal
import threading
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from .checkpoints import explain_failed_write, write_file


class RunLog:
    """
    A line of JSON for every entry in `log.jsonl`, and the same to Accelerate's trackers.

    Args:
        path (`Path`): The file. Entries after `step` are of a part of a run that is repeated, and are removed.
        accelerator (`Accelerator`): Knows the trackers; only its main process writes.
        step (`int`): Steps done so far.
    """

    def __init__(self, path: Path, accelerator: Accelerator, step: int = 0):
        self._accelerator = accelerator
        self._path = path
        self._file = None
        if accelerator.is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() and step else []
            kept = [line for line in lines if _step_of(line) <= step]
            write_file(path, "".join(line + "\n" for line in kept))
            self._file = path.open("a", encoding="utf-8")

    def write(self, step: int, values: dict[str, Any]) -> None:
        """
        Add an entry.

        Raises:
            OSError: If the disk does not take it; the message names the file.
        """
        self._accelerator.log(values, step=step)
        if self._file is not None:
            with explain_failed_write(self._path):
                self._file.write(json.dumps({"step": step, **values}) + "\n")
                self._file.flush()

    def close(self) -> None:
        """Close the file and the trackers; other than `end_training`, this leaves the group of processes as it is."""
        with contextlib.suppress(OSError):  # of what a full disk did not take, which was said when it was written
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


class StopSignals:
    """
    Remembers SIGTERM and SIGINT instead of ending the process; a second SIGINT, from the keyboard, ends it as usual.

    In a thread other than the main one signals cannot be caught, and it remembers nothing.

    Attributes:
        caught (`int`, *optional*): The first signal that came.
    """

    def __init__(self):
        self.caught: int | None = None
        self._handlers = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._remember)

    def _remember(self, number: int, frame: Any) -> None:
        if self.caught is not None and number == signal.SIGINT:
            self.restore()
            raise KeyboardInterrupt
        if self.caught is None:
            self.caught = number

    def restore(self) -> None:
        """Let signals do what they did before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}
