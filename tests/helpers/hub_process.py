# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The Hub of hub_server.py in a thread, and the clients of hub_client.py in processes of their own."""

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from helpers.hub_server import BRANCH, HubRequestHandler, RepoStore

HELPERS = Path(__file__).parent


@dataclass
class Hub:
    """A running Hub: its address, and what it stores."""

    endpoint: str
    store: RepoStore

    def names(self, repo_id: str, revision: str = BRANCH) -> set[str]:
        """The files of a repo."""
        return set(self.store.names(repo_id, revision))


@contextlib.contextmanager
def start_hub(root: Path) -> Iterator[Hub]:
    """A Hub of this computer's own, which keeps its repos below a folder."""
    handler = type("Handler", (HubRequestHandler,), {"store": RepoStore(root / "repos")})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Hub(f"http://127.0.0.1:{server.server_port}", handler.store)
        finally:
            server.shutdown()


def client_environment(endpoint: str, folder: Path) -> dict[str, str]:
    """The environment of somebody whose Hub this is, who has a token, and whose caches are empty."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return environment | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_MODULES_CACHE": str(folder / "modules"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "any",
        "NO_PROXY": "127.0.0.1",
        # Threads that wait for each other on a busy computer make so small a model a hundred times slower.
        "OMP_NUM_THREADS": "1",
    }


def run_client(
    task: str, workspace: Path, hub: Hub, result_folder: Path, without: list[str] | None = None
) -> dict[str, Any]:
    """Do a task of hub_client.py in a process whose caches are empty; its report."""
    command = [sys.executable, HELPERS / "hub_client.py", task, workspace, "--result-folder", result_folder]
    if without:
        command += ["--without", *without]
    process = subprocess.run(
        command,
        env=client_environment(hub.endpoint, result_folder),
        cwd=result_folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return {**torch.load(result_folder / "report.pt"), "result folder": result_folder}
