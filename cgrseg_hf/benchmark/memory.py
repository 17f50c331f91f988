# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Memory that a call takes, and how the C library hands it out."""

import ctypes
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"
_ALLOCATOR_VARIABLES = ("LD_PRELOAD", "GLIBC_TUNABLES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def measure_peak_memory(call: Callable[[], Any], device: torch.device | None = None) -> int | None:
    """
    Memory that a call needs at its peak, beyond what was in use before it.

    Args:
        call (`Callable[[], Any]`): What to run; what it returns counts too.
        device (`torch.device`, *optional*): A GPU, whose memory is then meant. By default the process's own.

    Returns:
        `int`: bytes; of the process's memory, anonymous pages alone, not mapped files. None where the system does not
        tell.
    """
    if device is not None and device.type == "cuda":
        return _measure_on_gpu(call, device)
    _give_back_freed_memory()
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
        before = _read_status()
        call()
        after = _read_status()
    except OSError:
        call()
        return None
    # The highest resident size includes pages of files; those of libraries only come, so the last count is theirs.
    peak = after["VmHWM"] - after["RssFile"] - after["RssShmem"]
    return max(peak - before["RssAnon"], 0)


def describe_allocator(freed_memory_is_kept: bool) -> str:
    """Which C library hands out memory, and what is set about it."""
    set_variables = {
        name: value for name, value in os.environ.items() if name in _ALLOCATOR_VARIABLES or name.startswith("MALLOC_")
    }
    library = " ".join(platform.libc_ver()).strip() or platform.system()
    kept = "freed memory is kept, as cgrseg predict does" if freed_memory_is_kept else "freed memory goes back"
    settings = ", ".join(f"{name}={value}" for name, value in sorted(set_variables.items())) or "default settings"
    return f"{library}, {settings}, {kept}"


def _measure_on_gpu(call: Callable[[], Any], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _read_status() -> dict[str, int]:
    """The fields of this process's status that are sizes, in bytes."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[-1] == "kB"}


def _give_back_freed_memory() -> None:
    """Let the C library return what it holds for later, so that using it again is seen."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # another library, which has no such function
        return
