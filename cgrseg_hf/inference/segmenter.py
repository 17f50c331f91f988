# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From photos of any kind and number to label maps, with reading, computing and post-processing at the same time."""

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm
from transformers import AutoImageProcessor, BaseImageProcessor, BatchFeature
from transformers.utils import logging

from ..data.layouts import list_pictures
from ..engines.engine import Engine
from ..engines.memory import keep_freed_memory  # noqa: F401 (a public name of this package)
from ..engines.names import EngineName
from ..export.choosing import make_engine
from ..model.configuration_cgrseg import SIZE_DIVISOR
from ..model.geometry_cgrseg import image_size_of_input
from ..model.image_processing_cgrseg import CGRSegImageProcessingMixin
from ..model.image_reading_cgrseg import (
    ImageSource,
    UnreadableImageError,
    describe_source,
    describe_type,
    is_image_source,
    is_path,
    read_image,
    to_photo,
)
from ..model.post_processing_cgrseg import label_map_dtype, label_map_from_logits, resize_logits
from ..pretrained import DEFAULT_MODEL
from ..pretrained.locating import locate_model
from ..visualization import class_colors
from .image_rows import ImageRows, open_rows, read_reduced
from .label_map_files import check_strips_suffix, label_type, write_strips
from .resampling import pixel_entropy
from .segmentation import Segmentation, count_pixels
from .threads import map_ahead
from .tiling import TileGrid, TileSettings, Window, blend_into_strips, read_windows

logger = logging.get_logger(__name__)

UnreadablePictureError = UnreadableImageError  # another public name

# Photos that may wait for others of their size, in batches.
_BATCHES_WAITING = 4

Opened = TypeVar("Opened")
Prepared = TypeVar("Prepared")
OnError = Literal["raise", "skip"] | Callable[[Any, UnreadableImageError], None]


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
        self._reading = {
            "num_channels": len(np.atleast_1d(image_processor.image_mean)),
            "do_convert_rgb": image_processor.do_convert_rgb is not False,
            "do_rescale": image_processor.do_rescale,
            "rescale_factor": image_processor.rescale_factor,
        }

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

    def __call__(
        self,
        images: ImageSource | list[ImageSource] | Iterable[ImageSource],
        *,
        batch_size: int = 1,
        on_error: OnError = "raise",
        return_scores: bool = False,
        return_entropy: bool = False,
        return_logits: bool = False,
        tile: int | None = None,
        overlap: int | None = None,
        scale: float = 1.0,
        output: str | os.PathLike | None = None,
        progress: bool = False,
    ) -> Any:  # a path may be a photo or a folder, and a type checker would ask everybody which it was
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
        if tile is None:
            _refuse_given(overlap=overlap, output=output, scale=None if scale == 1 else scale)
            segment = partial(self._segment_whole, batch_size, return_scores, return_entropy, return_logits)
        else:
            _refuse_given_with_tile(return_scores, return_entropy, return_logits)
            segment = partial(self._segment_in_windows, TileSettings(tile, overlap, scale), batch_size)

        if is_path(images) and not os.fspath(images):
            raise ValueError("Got an empty path: pass a photo or a folder.")
        is_folder = is_path(images) and Path(images).is_dir()
        if is_image_source(images) and not is_folder:
            if tile is not None:
                segment = partial(segment, output=None if output is None else Path(output), progress=progress)
            (segmentation,) = _leave_out_failures(segment([images]), "raise")
            return segmentation
        if output is not None:
            raise ValueError("output= is for one photo: pass the photos one by one, or save each result.")
        if is_folder:
            sources = list_pictures(images)
        elif isinstance(images, Iterable) and getattr(images, "ndim", 4) == 4:
            sources = images
        else:
            raise ValueError(f"Got {describe_type(images)}: pass a photo, a list of photos, a folder or an iterator.")
        segmentations = _leave_out_failures(segment(sources), on_error)
        if progress:
            total = len(sources) if hasattr(sources, "__len__") else None
            segmentations = iter(tqdm(segmentations, total=total, unit="photo"))
        is_list = isinstance(images, list | tuple | np.ndarray | torch.Tensor)
        return list(segmentations) if is_list else segmentations

    def _segment_whole(
        self,
        batch_size: int,
        return_scores: bool,
        return_entropy: bool,
        return_logits: bool,
        sources: Iterable[ImageSource],
    ) -> "Iterator[Segmentation | _Failure]":
        photos = self._read_ahead(self._open, self._prepare, sources, batch_size)
        for photo in self._run_in_groups(photos, batch_size):
            if isinstance(photo, _Failure):
                yield photo
            else:
                yield self._finish(photo, return_scores, return_entropy, return_logits)

    def _read_ahead(
        self,
        read: Callable[[Any], Opened],
        prepare: Callable[[Opened], Prepared],
        items: Iterable[Any],
        batch_size: int,
    ) -> Iterator[Prepared]:
        """Read, and where it wins prepare too, in threads while the network runs."""
        ahead = {"num_ahead": batch_size + self.num_threads_reading, "num_threads": self.num_threads_reading}
        if isinstance(items, list) and len(items) == 1:
            return map(prepare, map(read, items))
        if self.engine.device.type == "cpu" and self.engine.name in ("torch", "compile"):
            # PyTorch has a team of threads for every thread that calls it. Where the network's team has all cores, a
            # second one costs more than it does: each waits for the other at every step.
            return map(prepare, map_ahead(read, items, **ahead))
        return map_ahead(lambda item: prepare(read(item)), items, **ahead)

    def _open(self, source: ImageSource) -> "_Photo | _Failure":
        """Open and decode; runs in a thread."""
        try:
            return _Photo(source, pixels := read_image(source, self.max_pixels, **self._reading), pixels.shape[:2])
        except UnreadableImageError as error:
            return _Failure(source, error)

    def _prepare(self, photo: "_Photo | _Failure") -> "_Photo | _Failure":
        """Do what the image processor does."""
        if isinstance(photo, _Failure):
            return photo
        try:
            batch = self._preprocess(photo.pixels)
        except (ValueError, TypeError) as error:  # the image processor's words on what it cannot take
            return _Failure(photo.source, _refuse(describe_source(photo.source), error))
        photo.pixel_values = self._pin(batch["pixel_values"])
        # Image processors of other models pad nothing, and do not say so.
        image_sizes = batch.get("image_sizes")
        photo.input_size = tuple(batch["pixel_values"].shape[-2:])
        photo.image_size = photo.input_size if image_sizes is None else tuple(image_sizes[0].tolist())
        if is_path(photo.source):
            photo.pixels = None  # read again where it is needed
        return photo

    def _preprocess(self, pixels: np.ndarray | torch.Tensor, **settings: Any) -> BatchFeature:
        """Run the image processor on pixels (height, width, channels) as the reader returns them."""
        processor = self.image_processor
        if processor.do_rescale and torch.as_tensor(pixels).is_floating_point():
            # Rescaled here, since the image processor would take a dark window for values from 0 to 1.
            pixels, settings = pixels * processor.rescale_factor, {**settings, "do_rescale": False}
        return processor(pixels, input_data_format="channels_last", return_tensors="pt", **settings)

    def _pin(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return pixel_values.pin_memory() if self.engine.device.type == "cuda" else pixel_values

    def _run_in_groups(self, photos: "Iterable[_Photo | _Failure]", batch_size: int) -> "Iterator[_Photo | _Failure]":
        """Run photos of equal padded size together, and give all out in their order."""
        queue: deque[_Photo | _Failure] = deque()
        for photo in photos:
            queue.append(photo)
            if isinstance(photo, _Photo):
                group = _group_of(photo, queue)
                if len(group) == batch_size:
                    self._run(group)
            if len(queue) >= _BATCHES_WAITING * batch_size and _is_waiting(queue[0]):
                self._run(_group_of(queue[0], queue))
            while queue and not _is_waiting(queue[0]):
                yield queue.popleft()
        while queue:
            if _is_waiting(queue[0]):
                self._run(_group_of(queue[0], queue))
            yield queue.popleft()

    def _run(self, group: "list[_Photo]") -> None:
        logits = self.engine(_join([photo.pixel_values for photo in group]))
        for photo, of_photo in zip(group, logits):
            photo.logits, photo.pixel_values = of_photo, None

    def _finish(self, photo: "_Photo", return_scores: bool, return_entropy: bool, return_logits: bool) -> Segmentation:
        target_size = photo.size
        image_size = photo.image_size
        if image_size_of_input(photo.logits, photo.input_size) is None:
            # Of another model, such as SegFormer, with logits of another stride, which cover the padding too.
            photo.logits, image_size = _crop_logits(photo.logits, photo.input_size, photo.image_size), None
        scores = entropy = None
        if return_scores:
            scores = resize_logits(photo.logits[None].float(), image_size, target_size)[0]
            label_map = scores.argmax(dim=0).to(self._label_dtype)
        else:
            label_map = label_map_from_logits(photo.logits, image_size, target_size, dtype=self._label_dtype)
        if return_entropy:
            entropy = pixel_entropy(photo.logits, image_size, target_size).cpu().numpy()
        return Segmentation(
            label_map.cpu().numpy().astype(label_type(len(self.id2label)), copy=False),
            self.id2label,
            source=photo.source,
            read_photo=partial(self._read_photo, photo.source, photo.pixels),
            scores=None if scores is None else scores.cpu().numpy(),
            entropy=entropy,
            logits=photo.logits.to("cpu", torch.float32, copy=True) if return_logits else None,
            logits_image_size=image_size,
        )

    def _read_photo(self, source: ImageSource, pixels: np.ndarray | None, step: int) -> Image.Image:
        pixels = read_image(source, self.max_pixels, **self._reading) if pixels is None else pixels
        return to_photo(pixels[::step, ::step])

    @property
    def _label_dtype(self) -> torch.dtype:
        return label_map_dtype(len(self.id2label))

    def _segment_in_windows(
        self,
        settings: TileSettings,
        batch_size: int,
        sources: Iterable[ImageSource],
        output: Path | None = None,
        progress: bool = False,
    ) -> "Iterator[Segmentation | _Failure]":
        for source in sources:
            try:
                yield self._segment_large(source, settings, batch_size, output, progress)
            except UnreadableImageError as error:
                yield _Failure(source, error)

    def _segment_large(
        self, source: ImageSource, settings: TileSettings, batch_size: int, output: Path | None, progress: bool
    ) -> Segmentation:
        if not isinstance(self.image_processor, CGRSegImageProcessingMixin):
            raise ValueError("Windows (tile=…) are for CGRSeg and its image processors: leave out tile.")
        if output is not None:
            check_strips_suffix(output)
            if is_path(source) and output.exists() and output.samefile(source):
                raise ValueError(f"output={str(output)!r} is the photo itself: name another file.")
        picture = open_rows(source, self.max_pixels, **self._reading)
        grid = TileGrid(picture.size, settings, self._window_unit)
        counts = np.zeros(len(self.id2label), dtype=np.int64)
        dtype = label_type(len(self.id2label))

        def strips() -> Iterator[np.ndarray]:
            with tqdm(total=len(grid), unit="window", disable=not progress) as bar:
                logits = self._run_windows(picture, describe_source(source), grid, batch_size, bar)
                for strip in blend_into_strips(logits, grid, self._label_dtype):
                    np.add(counts, count_pixels(strip, len(counts)), out=counts)
                    yield strip.astype(dtype, copy=False)

        if output is None:
            label_map = np.empty(picture.size, dtype=dtype)
            top = 0
            for strip in strips():
                label_map[top : top + len(strip)] = strip
                top += len(strip)
        else:
            label_map = output
            write_strips(output, strips(), picture.size, dtype, class_colors(self.id2label))
        return Segmentation(
            label_map,
            self.id2label,
            size=picture.size,
            pixel_counts=counts,
            source=source,
            read_photo=partial(self._read_large_photo, source),
        )

    def _read_large_photo(self, source: ImageSource, step: int) -> Image.Image:
        return to_photo(read_reduced(open_rows(source, self.max_pixels, **self._reading), step))

    @property
    def _window_unit(self) -> int:
        """What lengths of windows are multiples of: the network's unit, and the image processor's."""
        divisor = self.image_processor.size_divisor if self.image_processor.do_pad else 1
        return math.lcm(SIZE_DIVISOR, divisor)

    def _run_windows(
        self, picture: ImageRows, name: str, grid: TileGrid, batch_size: int, bar: tqdm
    ) -> Iterator[tuple[int, int, torch.Tensor]]:
        """The windows' logits, row by row; the next windows are read and prepared while these run."""
        cuts = read_windows(picture, grid, self.image_processor.antialias)
        prepare = partial(self._prepare_window, grid.window_size, name)
        windows = self._read_ahead(lambda cut: cut(), prepare, cuts, batch_size)
        while group := list(itertools.islice(windows, batch_size)):
            logits = self.engine(_join([pixel_values for _, pixel_values in group]))
            for (window, _), of_window in zip(group, logits):
                yield window.row, window.column, of_window
            bar.update(len(group))

    def _prepare_window(self, size: tuple[int, int], name: str, window: Window) -> tuple[Window, torch.Tensor]:
        """Do what the image processor does, but for the size."""
        try:
            pad_size = {"height": size[0], "width": size[1]}
            batch = self._preprocess(window.pixels, do_resize=False, do_pad=True, pad_size=pad_size)
        except (ValueError, TypeError) as error:  # such as values out of range, which the first window may not have
            raise _refuse(name, error) from error
        window.pixels = None
        return window, self._pin(batch["pixel_values"])


@dataclass
class _Failure:
    """A photo that could not be read."""

    source: Any
    error: UnreadableImageError


@dataclass
class _Photo:
    """A photo on its way; what is not needed any more is None."""

    source: ImageSource
    pixels: np.ndarray | None  # (height, width, channels)
    size: tuple[int, int]
    pixel_values: torch.Tensor | None = None  # (1, channels, height, width)
    input_size: tuple[int, int] = (0, 0)  # of pixel_values
    image_size: tuple[int, int] = (0, 0)  # in pixel_values, without padding
    logits: torch.Tensor | None = None  # (num_labels, height / 8, width / 8)


def _refuse(name: str, error: Exception) -> UnreadableImageError:
    """Put the photo's name before the image processor's words on an image that it cannot use."""
    return UnreadableImageError(f"{name} cannot be used: {error}")


def _crop_logits(logits: torch.Tensor, input_size: tuple[int, int], image_size: tuple[int, int]) -> torch.Tensor:
    """Logits (num_labels, height, width) of the whole input to those of the image in it, to the nearest position."""
    rows, columns = (
        max(round(length * image / whole), 1) for length, image, whole in zip(logits.shape[1:], image_size, input_size)
    )
    return logits[:, :rows, :columns]


def _join(batches: list[torch.Tensor]) -> torch.Tensor:
    return batches[0] if len(batches) == 1 else torch.cat(batches)


def _is_waiting(photo: _Photo | _Failure) -> bool:
    return isinstance(photo, _Photo) and photo.logits is None


def _group_of(photo: _Photo, queue: Iterable[_Photo | _Failure]) -> list[_Photo]:
    """The photos that wait and have this one's padded size."""
    shape = photo.pixel_values.shape
    return [one for one in queue if _is_waiting(one) and one.pixel_values.shape == shape]


def _leave_out_failures(results: Iterable[Segmentation | _Failure], on_error: OnError) -> Iterator[Segmentation]:
    for result in results:
        if not isinstance(result, _Failure):
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


def _refuse_given(**arguments: Any) -> None:
    for name, value in arguments.items():
        if value is not None:
            raise ValueError(f"{name}={value!r} is for windows: pass tile= too, such as tile=512.")


def _refuse_given_with_tile(return_scores: bool, return_entropy: bool, return_logits: bool) -> None:
    if return_scores or return_entropy or return_logits:
        raise ValueError("Scores, entropy and logits are not kept for windows: leave out tile= to get them.")
