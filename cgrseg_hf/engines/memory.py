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

    By default glibc maps large tensors anew and gives the top of its heap back, and the system clears each page when it
    is first touched. Its limits grow as memory is freed, so photos of 512×512 pixels gain nothing from this; with large
    inputs, such as windows of 1024×1024, about half of the faults and some percent of the time of PyTorch on a CPU are
    saved. The price is that memory once used stays with the process. It holds for the process as a whole, so the
    library does not do it by itself; `cgrseg predict` does.

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
