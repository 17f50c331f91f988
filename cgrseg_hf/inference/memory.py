# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The C library's memory, kept for the next picture instead of given back."""

import ctypes

# Parameters of glibc's mallopt, and the largest threshold that it takes.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_LARGEST_TRIM_THRESHOLD = 2**31 - 1


def keep_freed_memory() -> bool:
    """
    Let this process keep the memory of freed tensors of up to 32 MiB, so that the next ones need no new pages.

    By default glibc maps larger tensors anew in every call, and the system clears each page when it is first touched;
    for a network that runs eagerly on a CPU that is a good part of its time. The price is that memory once used stays
    with the process. It holds for the process as a whole, so a library should not decide it: `cgrseg predict` does.

    Returns:
        `bool`: whether it took effect; not where another C library or allocator is used.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        mallopt(_M_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD),
    ]
    return all(taken)
