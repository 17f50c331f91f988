# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Work done ahead in threads, in order."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END = object()


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_ahead: int = 2, num_threads: int = 1
) -> Iterator[Result]:
    """
    `map` that works on the next items in threads while the present result is used.

    Args:
        function (`Callable`):
            Called with each item, in a thread; what it raises is raised when its result's turn comes.
        items (`Iterable`):
            The items. They are taken one after another in a thread of their own, never more than `num_ahead` before
            they are needed.
        num_ahead (`int`, *optional*, defaults to 2):
            Number of results that are computed or wait at any time.
        num_threads (`int`, *optional*, defaults to 1):
            Number of calls at a time.

    Returns:
        `Iterator`: the results, in the items' order.
    """
    iterator = iter(items)
    is_finalizing = sys.is_finalizing  # at the end of Python, modules are emptied
    reader = ThreadPoolExecutor(1, thread_name_prefix="cgrseg-read")
    workers = ThreadPoolExecutor(num_threads, thread_name_prefix="cgrseg-work")

    def submit() -> Future:
        return workers.submit(compute, reader.submit(next, iterator, _END))

    def compute(taken: Future) -> Any:
        item = taken.result()
        return _END if item is _END else function(item)

    pending: deque[Future] = deque()
    try:
        pending.extend(submit() for _ in range(num_ahead))
        while (result := pending.popleft().result()) is not _END:
            pending.append(submit())
            yield result
    finally:
        # Whoever stops early does not wait for what nobody needs, such as the next frame of a camera. When Python ends,
        # the threads have ended, and what shutdown() uses may be gone.
        if not is_finalizing():
            workers.shutdown(wait=False, cancel_futures=True)
            reader.shutdown(wait=False, cancel_futures=True)
