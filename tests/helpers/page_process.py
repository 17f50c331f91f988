# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page of `cgrseg demo` as a process, for the tests that visit it."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import cgrseg_hf

PACKAGE_PARENT = Path(cgrseg_hf.__file__).parents[1]


@dataclass
class Page:
    """A running page: its address, its process and the folder of its temporary files."""

    address: str
    process: subprocess.Popen
    temporary: Path

    def connect(self, downloads: Path):
        """A client of its own, which saves what it receives in a folder."""
        client = pytest.importorskip("gradio_client")
        return client.Client(self.address, verbose=False, analytics_enabled=False, download_files=downloads)


@contextlib.contextmanager
def start_page(folder: Path, *arguments: str) -> Iterator[Page]:
    """Run the command with temporary files below a folder."""
    pytest.importorskip("gradio")
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]),
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "-m", "cgrseg_hf", "demo", "--port", "0", "--engine", "torch", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": (folder / "log").open("w"), "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **streams) as process:
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, f"{line} {(folder / 'log').read_text()}"
            yield Page(found[0], process, temporary)
        finally:
            process.terminate()
