# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page as a process, for the tests that visit it: the real command, and what a browser would send to it."""

import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import cgrseg_hf

PACKAGE_PARENT = Path(cgrseg_hf.__file__).parents[1]
PATIENCE = 60  # seconds in which everything has to appear


@dataclass
class Page:
    """A running page: its address, its process and the folder of its files."""

    address: str
    process: subprocess.Popen
    temporary: Path

    def get(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers of an address of the page."""
        try:
            with urllib.request.urlopen(f"{self.address}{path}", timeout=PATIENCE) as answer:
                return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as error:
            return error.code, error.read(), {}

    def find_function(self, target: str) -> int:
        """The number of what the page does when something happens to an element, such as `photo.change`."""
        config = json.loads(self.get("/config")[1])
        names = {one["id"]: one["props"].get("elem_id") for one in config["components"]}
        return next(
            one["id"]
            for one in config["dependencies"]
            if any(f"{names.get(element)}.{event}" == target for element, event in one["targets"])
        )

    def join(self, function: int, data: list, session: str) -> None:
        """
        Join the queue, as a browser does when something happens.

        Raises:
            urllib.error.HTTPError: If the queue is full; its status is 503.
        """
        request = urllib.request.Request(
            f"{self.address}/gradio_api/queue/join",
            json.dumps({"fn_index": function, "session_hash": session, "data": data}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE):
            pass

    def ask(self, function: int, data: list, session: str) -> dict:
        """Join the queue and wait for the answer, see [`~Page.join`]."""
        self.join(function, data, session)
        address = f"{self.address}/gradio_api/queue/data?session_hash={session}"
        with urllib.request.urlopen(address, timeout=PATIENCE) as events:
            answer = next(line for line in events if b'"process_completed"' in line)
        return json.loads(answer.removeprefix(b"data: "))

    def ask_for_classes(self, photo: dict, model: str, repo_id: str = "") -> str:
        """What the server answers to a request that no browser would send."""
        data = [{"meta": {"_type": "gradio.FileData"}, **photo}, model, repo_id, 55]
        return json.dumps(self.ask(self.find_function("photo.change"), data, uuid.uuid4().hex))

    def upload(self, photo: Path) -> str:
        """Upload a file without a browser; where the server keeps it."""
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="photo.jpg"\r\n\r\n'
        request = urllib.request.Request(
            f"{self.address}/gradio_api/upload",
            head.encode() + photo.read_bytes() + f"\r\n--{boundary}--\r\n".encode(),
            {"Content-Type": f"multipart/form-data; boundary={boundary}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read())[0]


@contextlib.contextmanager
def start_page(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Iterator[Page]:
    """The command in a process, with temporary files below a folder, and variables of its environment."""
    pytest.importorskip("gradio")
    temporary = folder / "temporary"
    temporary.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")]),
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        "HF_HUB_OFFLINE": "1",
        **(variables or {}),
    }
    command = [sys.executable, "-m", "cgrseg_hf", "demo", "--port", "0", "--engine", "torch", *arguments]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder, env=environment
        ) as process,
    ):
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert found, f"{line} {(folder / 'log').read_text()}"
            yield Page(found[0], process, temporary)
        finally:
            process.terminate()
