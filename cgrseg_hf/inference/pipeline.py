# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From sources to logits: the next images are read and prepared in threads while the network runs."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import BaseImageProcessor, BatchFeature

from ..engines.engine import Engine
from ..model.image_reading_cgrseg import ImageSource, UnreadableImageError, read_image

Item = TypeVar("Item")
Opened = TypeVar("Opened")
Result = TypeVar("Result")

_END = object()


@dataclass
class Failure:
    """An image that cannot be read, in the place of its result: the others go on."""

    source: Any
    error: UnreadableImageError


def attempt(source: Any, function: Callable[..., Result], *arguments: Any) -> Result | Failure:
    """Call a function; return a [`Failure`] of the source if it raises that an image cannot be read."""
    try:
        return function(*arguments)
    except UnreadableImageError as error:
        return Failure(source, error)


@dataclass
class Pipeline:
    """
    The steps of a [`Segmenter`] up to the logits; see there for the arguments.

    Whole images and windows go through the same steps.
    """

    engine: Engine
    image_processor: BaseImageProcessor
    max_pixels: int | None
    num_threads_reading: int

    @property
    def reading(self) -> dict[str, Any]:
        """The image processor's settings that reading depends on, see [`read_image`]."""
        processor = self.image_processor
        mean = processor.image_mean
        return {
            "num_channels": len(mean) if isinstance(mean, Sequence | np.ndarray) else 3,
            "do_convert_rgb": processor.do_convert_rgb is not False,
            "do_rescale": processor.do_rescale,
            "rescale_factor": processor.rescale_factor,
        }

    @property
    def white(self) -> float | None:
        """Value of white in pixels that are read; None where the image processor takes values as they are."""
        return 255 if self.reading["do_rescale"] and self.reading["rescale_factor"] == 1 / 255 else None

    def read(self, source: ImageSource) -> np.ndarray:
        """Read an image as pixels (height, width, channels)."""
        return read_image(source, self.max_pixels, **self.reading)

    def prepare(self, pixels: np.ndarray | torch.Tensor, name: str, **settings: Any) -> BatchFeature:
        """
        Run the image processor on one image.

        Args:
            pixels (`numpy.ndarray` or `torch.Tensor` of shape `(height, width, channels)`): Pixels as they are read.
            name (`str`): Name of the image in messages.
            **settings: Settings of the image processor for this call.

        Raises:
            UnreadableImageError: If the image processor refuses the image.
        """
        processor = self.image_processor
        if processor.do_rescale and torch.as_tensor(pixels).is_floating_point():
            # Rescaled here, since the image processor would take a dark window for values from 0 to 1.
            pixels, settings = pixels * processor.rescale_factor, {**settings, "do_rescale": False}
        try:
            batch = processor(pixels, input_data_format="channels_last", return_tensors="pt", **settings)
        except (ValueError, TypeError) as error:
            raise UnreadableImageError(f"{name} cannot be used: {error}") from error
        if self.engine.device.type == "cuda":
            batch["pixel_values"] = batch["pixel_values"].pin_memory()
        return batch

    def run(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Compute the logits (batch, num_labels, rows, columns) of pixel values (1, channels, height, width) each."""
        return self.engine(batches[0] if len(batches) == 1 else torch.cat(batches))

    def read_ahead(
        self,
        read: Callable[[Item], Opened],
        prepare: Callable[[Opened], Result],
        items: Iterable[Item],
        batch_size: int,
    ) -> Iterator[Result]:
        """Map `read` and `prepare` over items, both in threads, or only `read` where that is faster."""
        ahead = {"num_ahead": batch_size + self.num_threads_reading, "num_threads": self.num_threads_reading}
        if isinstance(items, list) and len(items) == 1:
            return map(prepare, map(read, items))
        if self.engine.device.type == "cpu" and self.engine.name in ("torch", "compile"):
            # PyTorch has a team of threads for every thread that calls it. Where the network's team has all cores, a
            # second one costs more than it does: each waits for the other at every step.
            return map(prepare, map_ahead(read, items, **ahead))
        return map_ahead(lambda item: prepare(read(item)), items, **ahead)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_ahead: int = 2, num_threads: int = 1
) -> Iterator[Result]:
    """
    Map a function that works on the next items in threads while the present result is used.

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
