# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Versions, the commit of the code, the weights and the processor: what it takes to repeat a report."""

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path


def find_versions(*packages: str) -> dict[str, str]:
    """Find the versions of Python, of this package and of the named ones that are installed."""
    versions = {"python": platform.python_version()}
    for package in ("cgrseg_hf", *packages):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def find_git_commit() -> str | None:
    """Find the commit of the checkout that this package runs from, with "-dirty" if changed; None without one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def digest_file(file: Path) -> str:
    """Compute the SHA-256 of a file in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digest_weights(folder: Path) -> dict[str, str]:
    """Compute the SHA-256 of each file of weights that `from_pretrained` reads in a folder; none of an export."""
    names, index = ["model.safetensors"], folder / "model.safetensors.index.json"
    if not (folder / names[0]).is_file() and index.is_file():
        parts = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        names = sorted({Path(part).name for part in parts})
    return {name: digest_file(folder / name) for name in names if (folder / name).is_file()}


def find_processor() -> str:
    """Read the processor's name from the system."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def count_cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
