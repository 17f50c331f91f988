# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Many images, each resized and segmented as a whole, in batches of equal padded size."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from ..model.geometry_cgrseg import image_size_of_input
from ..model.image_reading_cgrseg import ImageSource, describe_source, is_path, to_photo
from ..model.post_processing_cgrseg import label_map_dtype, label_map_from_logits, resize_logits
from .label_map_files import label_type
from .pipeline import Failure, Pipeline, attempt
from .resampling import compute_entropy, reduce_scores
from .segmentation import Segmentation

# Images that may wait for others of their size, in batches.
_BATCHES_WAITING = 4


@dataclass(frozen=True)
class Kept:
    """Whether a segmentation keeps these beside its label map."""

    scores: bool
    entropy: bool
    logits: bool
    photo: bool


@dataclass
class _Job:
    """An image between the steps; what is not needed any more is None."""

    source: ImageSource
    pixels: np.ndarray | None  # (height, width, channels)
    size: tuple[int, int]
    pixel_values: torch.Tensor | None = None  # (1, channels, height, width)
    input_size: tuple[int, int] = (0, 0)  # of pixel_values
    image_size: tuple[int, int] = (0, 0)  # in pixel_values, without padding
    logits: torch.Tensor | None = None  # (num_labels, height / 8, width / 8)


def segment_whole(
    pipeline: Pipeline, sources: Iterable[ImageSource], batch_size: int, kept: Kept
) -> Iterator[Segmentation | Failure]:
    """
    Segment images.

    Args:
        pipeline ([`Pipeline`]): The steps up to the logits.
        sources (`Iterable[ImageSource]`): The images.
        batch_size (`int`): Images that go through the network together, if they have the same size there.
        kept ([`Kept`]): What the segmentations keep.

    Returns:
        `Iterator[Segmentation | Failure]`: a result for each image, in their order.
    """

    def read(source: ImageSource) -> _Job:
        pixels = pipeline.read(source)
        return _Job(source, pixels, pixels.shape[:2])

    def prepare(job: _Job | Failure) -> _Job | Failure:
        return job if isinstance(job, Failure) else attempt(job.source, _prepare, pipeline, job, kept)

    jobs = pipeline.read_ahead(lambda source: attempt(source, read, source), prepare, sources, batch_size)
    for job in _run_in_groups(pipeline, jobs, batch_size):
        yield job if isinstance(job, Failure) else _finish(pipeline, job, kept)


def _prepare(pipeline: Pipeline, job: _Job, kept: Kept) -> _Job:
    """Run the image processor."""
    batch = pipeline.prepare(job.pixels, describe_source(job.source))
    job.pixel_values = batch["pixel_values"]
    job.input_size = tuple(job.pixel_values.shape[-2:])
    # Image processors of other models pad nothing, and do not say so.
    image_sizes = batch.get("image_sizes")
    job.image_size = job.input_size if image_sizes is None else tuple(image_sizes[0].tolist())
    if is_path(job.source) and not kept.photo:
        job.pixels = None  # read again where they are needed: many results may be held at once
    return job


def _run_in_groups(pipeline: Pipeline, jobs: Iterable[_Job | Failure], batch_size: int) -> Iterator[_Job | Failure]:
    """Run images of equal padded size together, and yield all in their order."""
    queue: deque[_Job | Failure] = deque()
    for job in jobs:
        queue.append(job)
        if isinstance(job, _Job) and len(group := _find_group(job, queue)) == batch_size:
            _run(pipeline, group)
        if len(queue) >= _BATCHES_WAITING * batch_size and _is_waiting(queue[0]):
            _run(pipeline, _find_group(queue[0], queue))
        while queue and not _is_waiting(queue[0]):
            yield queue.popleft()
    while queue:
        if _is_waiting(queue[0]):
            _run(pipeline, _find_group(queue[0], queue))
        yield queue.popleft()


def _is_waiting(job: _Job | Failure) -> bool:
    return isinstance(job, _Job) and job.logits is None


def _find_group(job: _Job, queue: Iterable[_Job | Failure]) -> list[_Job]:
    """Find the images that wait and have the padded size of this one."""
    shape = job.pixel_values.shape
    return [other for other in queue if _is_waiting(other) and other.pixel_values.shape == shape]


def _run(pipeline: Pipeline, group: list[_Job]) -> None:
    """Compute the logits of images of one padded size."""
    for job, logits in zip(group, pipeline.run([job.pixel_values for job in group])):
        job.logits, job.pixel_values = logits, None


def _finish(pipeline: Pipeline, job: _Job, kept: Kept) -> Segmentation:
    """Compute the label map at the image's own size, and the rest of what is kept."""
    id2label = pipeline.engine.config.id2label
    logits, image_size = job.logits, job.image_size
    if image_size_of_input(logits, job.input_size) is None:
        # Of another model, such as SegFormer, with logits of another stride, which cover the padding too.
        logits, image_size = _crop_logits(logits, job.input_size, image_size), None
    scores = entropy = None
    if kept.scores:
        scores = resize_logits(logits[None].float(), image_size, job.size)[0]
        label_map = scores.argmax(dim=0)
    else:
        label_map = label_map_from_logits(logits, image_size, job.size, dtype=label_map_dtype(len(id2label)))
    if kept.entropy:
        entropy = reduce_scores(compute_entropy, logits, image_size, job.size)
    return Segmentation(
        label_map.numpy(force=True).astype(label_type(len(id2label)), copy=False),
        id2label,
        source=job.source,
        read_photo=partial(_read_photo, pipeline, job.source, job.pixels),
        scores=None if scores is None else scores.numpy(force=True),
        entropy=None if entropy is None else entropy.numpy(force=True),
        logits=logits.to("cpu", torch.float32, copy=True) if kept.logits else None,
        logits_image_size=image_size,
    )


def _crop_logits(logits: torch.Tensor, input_size: tuple[int, int], image_size: tuple[int, int]) -> torch.Tensor:
    """Crop logits (num_labels, height, width) of the whole input to the image in it, to the nearest position."""
    rows, columns = (
        max(round(length * image / whole), 1) for length, image, whole in zip(logits.shape[1:], image_size, input_size)
    )
    return logits[:, :rows, :columns]


def _read_photo(pipeline: Pipeline, source: ImageSource, pixels: np.ndarray | None, step: int) -> Image.Image:
    """Return every `step`-th pixel of an image in RGB, read again if its pixels were not kept."""
    pixels = pipeline.read(source) if pixels is None else pixels
    return to_photo(pixels[::step, ::step], pipeline.white)
