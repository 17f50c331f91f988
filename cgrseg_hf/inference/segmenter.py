# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From photos of any kind and number to label maps, with reading, computing and post-processing at the same time."""

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, TypedDict, Unpack, overload

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm
from transformers import AutoImageProcessor, BaseImageProcessor
from transformers.utils import logging

from ..data.layouts import list_images
from ..engines.engine import Engine
from ..engines.memory import keep_freed_memory  # noqa: F401 (a public name of this package)
from ..engines.names import EngineName
from ..export.choosing import make_engine
from ..model.image_reading_cgrseg import (
    ImageSource,
    UnreadableImageError,
    describe_type,
    is_image_source,
    is_path,
)
from ..pretrained import DEFAULT_MODEL
from ..pretrained.locating import locate_model
from .pipeline import Failure, Pipeline, attempt
from .segmentation import Segmentation
from .tiling import TileSettings
from .whole_images import Kept, segment_whole
from .windows import segment_in_windows

logger = logging.get_logger(__name__)

UnreadablePictureError = UnreadableImageError  # another public name

OnError = Literal["raise", "skip"] | Callable[[Any, UnreadableImageError], None]


class SegmentOptions(TypedDict, total=False):
    """Options of a call of the [`Segmenter`], for type checkers; see [`Segmenter.__call__`]."""

    batch_size: int
    on_error: OnError
    return_scores: bool
    return_entropy: bool
    return_logits: bool
    return_photo: bool
    tile: int | None
    overlap: int | None
    scale: float
    output: str | os.PathLike | None
    progress: bool


class Segmenter:
    """
    Segments photos: decoding and preparation of the next, the network, and the label map of the last run side by side.

    A photo is resized as the image processor says (the shipped model's shorter side becomes 512 pixels) and its label
    map comes back at the photo's own size. With `tile`, the network runs on windows of the photo's own resolution
    instead, or of `scale` times it.

    Args:
        engine ([`Engine`]):
            What computes the network, see [`make_engine`].
        image_processor (`BaseImageProcessor`):
            The model's image processor; all its settings count.
        max_pixels (`int`, *optional*):
            Pixels that a photo may have. By default Pillow's guard against files that claim to be huge
            (`PIL.Image.MAX_IMAGE_PIXELS`, 89 million); with `tile`, any number.
        num_threads_reading (`int`, *optional*, defaults to 1):
            Photos that are decoded and prepared at the same time.

    Example:

    ```python
    from cgrseg_hf.inference import Segmenter

    segmenter = Segmenter.from_pretrained()
    segmentation = segmenter("photo.jpg")
    print(segmentation.area_shares)
    segmentation.overlay().save("overlay.png")
    segmentation.save("classes.png")
    ```
    """

    def __init__(
        self,
        engine: Engine,
        image_processor: BaseImageProcessor,
        *,
        max_pixels: int | None = None,
        num_threads_reading: int = 1,
    ):
        _check_at_least_one(max_pixels=max_pixels, num_threads_reading=num_threads_reading)
        self.engine = engine
        self.image_processor = image_processor
        self.max_pixels = max_pixels
        self.num_threads_reading = num_threads_reading
        self.id2label: dict[int, str] = dict(engine.config.id2label)

    def __repr__(self) -> str:
        engine = self.engine
        dtype = str(engine.dtype).removeprefix("torch.")
        return f"Segmenter({len(self.id2label)} classes, {engine.name} on {engine.device}, {dtype})"

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike = DEFAULT_MODEL,
        engine: EngineName = "auto",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        *,
        size: dict[str, int] | None = None,
        num_threads: int | None = None,
        max_pixels: int | None = None,
        num_threads_reading: int = 1,
        trust_remote_code: bool = False,
    ) -> "Segmenter":
        """
        Load a model with its image processor.

        Args:
            name_or_folder (`str` or `os.PathLike`, *optional*):
                Folder or Hub id of a model, or a folder that `cgrseg export` wrote; by default, and as `"shipped"`,
                the shipped model.
            engine (`str`, *optional*, defaults to `"auto"`), device (*optional*), dtype (*optional*):
                See [`make_engine`].
            size (`dict[str, int]`, *optional*):
                Size that photos are brought to, other than the image processor's own, such as
                `{"height": 512, "width": 512}` or `{"shortest_edge": 1024, "longest_edge": 4096}`.
            num_threads (`int`, *optional*):
                Processor cores for the network, see [`make_engine`].
            max_pixels (`int`, *optional*), num_threads_reading (`int`, *optional*, defaults to 1):
                See [`Segmenter`].
            trust_remote_code (`bool`, *optional*, defaults to `False`):
                Allow an exported program of torch.export, see [`make_engine`].

        Raises:
            ValueError: If there is no such model, engine, device or type.
        """
        _check_at_least_one(num_threads=num_threads)
        source = locate_model(name_or_folder)
        settings = {} if size is None else {"size": size}
        image_processor = AutoImageProcessor.from_pretrained(source, **settings)
        return cls(
            make_engine(source, engine, device, dtype, num_threads, trust_remote_code=trust_remote_code),
            image_processor,
            max_pixels=max_pixels,
            num_threads_reading=num_threads_reading,
        )

    @overload
    def __call__(self, images: Image.Image | IO[bytes], **options: Unpack[SegmentOptions]) -> Segmentation: ...

    @overload
    def __call__(
        self, images: list[ImageSource] | tuple[ImageSource, ...], **options: Unpack[SegmentOptions]
    ) -> list[Segmentation]: ...

    # A path may be a photo or a folder, and an array one photo or several.
    @overload
    def __call__(
        self, images: str | os.PathLike | np.ndarray | torch.Tensor, **options: Unpack[SegmentOptions]
    ) -> Any: ...

    @overload
    def __call__(self, images: Iterable[ImageSource], **options: Unpack[SegmentOptions]) -> Iterator[Segmentation]: ...

    def __call__(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        batch_size: int = 1,
        on_error: OnError = "raise",
        return_scores: bool = False,
        return_entropy: bool = False,
        return_logits: bool = False,
        return_photo: bool = False,
        tile: int | None = None,
        overlap: int | None = None,
        scale: float = 1.0,
        output: str | os.PathLike | None = None,
        progress: bool = False,
    ) -> Segmentation | list[Segmentation] | Iterator[Segmentation]:
        """
        Segment a photo or many.

        Args:
            images:
                One photo: a path, an open file, a PIL image, or an array or tensor `(height, width, channels)` or
                `(channels, height, width)`, and with `tile` a `.npy` file too. Or many: a list of these, an array of
                four dimensions, a folder, or an iterator, such as one over the frames of a video.
            batch_size (`int`, *optional*, defaults to 1):
                Photos, or windows, that go through the network together, if they have the same size there. None is
                padded to another's size, so that its result does not depend on the others.
            on_error (`str` or `Callable`, *optional*, defaults to `"raise"`):
                What to do where one of many photos cannot be read: `"raise"` the error, `"skip"` the photo with a
                warning, or call a function with the photo as it was passed and the error, and skip it.
            return_scores (`bool`, *optional*, defaults to `False`):
                Whether to add each pixel's class scores: `num_labels` times 4 bytes a pixel.
            return_entropy (`bool`, *optional*, defaults to `False`):
                Whether to add the entropy of each pixel's class probabilities.
            return_logits (`bool`, *optional*, defaults to `False`):
                Whether to keep the network's logits, which take a fraction of the scores' memory:
                [`~Segmentation.probabilities_at`] and [`~Segmentation.probability_map`] need them.
            return_photo (`bool`, *optional*, defaults to `False`):
                Whether to keep the decoded photo, so that [`~Segmentation.overlay`] and [`~Segmentation.heat_map`] do
                not read its file again: 3 bytes a pixel. With `tile`, TIFF and `.npy` files stay open instead.
            tile (`int`, *optional*):
                Run windows of so many pixels a side over each photo at its own resolution, and blend their logits
                where they overlap. Memory is that of a row of windows, for files of any size if they are TIFF or
                `.npy`; other formats are decoded as a whole.
            overlap (`int`, *optional*):
                Pixels that neighbouring windows share; by default a quarter of `tile`.
            scale (`float`, *optional*, defaults to 1.0):
                Factor by which the photo is resized before it is cut into windows. Choose it so that things look as
                large as in training: the shipped model has learned from streets 512 pixels high.
            output (`str` or `os.PathLike`, *optional*):
                With `tile` and one photo, write the label map to this `.npy` or `.tif` file as it is computed, and
                hold no more of it than a strip.
            progress (`bool`, *optional*, defaults to `False`):
                Whether to show a progress bar: of photos, or for one photo of windows.

        Returns:
            [`Segmentation`] for one photo; a list for a list or an array of four dimensions; an iterator, which holds
            a few photos at a time, for a folder or an iterator. The order is that of the photos.

        Raises:
            UnreadableImageError: If a photo cannot be read; a `ValueError`.
            ValueError: If an argument does not fit.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least one photo goes through the network at a time.")
        if on_error not in ("raise", "skip") and not callable(on_error):
            raise ValueError(f"on_error={on_error!r}: use 'raise', 'skip' or a function of the photo and its error.")
        is_single, sources = _find_sources(images)
        if tile is None:
            _refuse_without_tile(overlap=overlap, output=output, scale=None if scale == 1 else scale)
            kept = Kept(return_scores, return_entropy, return_logits, return_photo)
            results = segment_whole(self._pipeline, sources, batch_size, kept)
        else:
            if return_scores or return_entropy or return_logits:
                raise ValueError("Scores, entropy and logits are not kept for windows: leave out tile= to get them.")
            if output is not None and not is_single:
                raise ValueError("output= is for one photo: pass the photos one by one, or save each result.")
            segment = partial(
                segment_in_windows,
                self._pipeline,
                settings=TileSettings(tile, overlap, scale),
                batch_size=batch_size,
                output=None if output is None else Path(output),
                keep_rows=return_photo,
                progress=progress and is_single,
            )
            results = (attempt(source, segment, source) for source in sources)
        if is_single:
            (segmentation,) = _handle_failures(results, "raise")
            return segmentation
        segmentations = _handle_failures(results, on_error)
        if progress:
            total = len(sources) if isinstance(sources, Sized) else None
            segmentations = iter(tqdm(segmentations, total=total, unit="photo"))
        is_list = isinstance(images, list | tuple | np.ndarray | torch.Tensor)
        return list(segmentations) if is_list else segmentations

    @property
    def _pipeline(self) -> Pipeline:
        return Pipeline(self.engine, self.image_processor, self.max_pixels, self.num_threads_reading)


def _find_sources(images: ImageSource | Iterable[ImageSource]) -> tuple[bool, Iterable[ImageSource]]:
    """Return whether one image was passed, and the images one by one."""
    if is_path(images) and not os.fspath(images):
        raise ValueError("Got an empty path: pass a photo or a folder.")
    if is_path(images) and Path(images).is_dir():
        return False, list_images(images)
    if is_image_source(images):
        return True, [images]
    if isinstance(images, Iterable) and getattr(images, "ndim", 4) == 4:
        return False, images
    raise ValueError(f"Got {describe_type(images)}: pass a photo, a list of photos, a folder or an iterator.")


def _handle_failures(results: Iterable[Segmentation | Failure], on_error: OnError) -> Iterator[Segmentation]:
    """Yield the segmentations; raise, skip or report the failures."""
    for result in results:
        if not isinstance(result, Failure):
            yield result
        elif on_error == "raise":
            raise result.error
        elif on_error == "skip":
            logger.warning("Skipped: %s", result.error)
        else:
            on_error(result.source, result.error)


def _check_at_least_one(**arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}: it must be at least 1.")


def _refuse_without_tile(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} is for windows: pass tile= too, such as tile=512.")
