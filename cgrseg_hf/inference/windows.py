# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""One image of any size in windows: read in bands, run in batches, blended into strips of the label map."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..model.configuration_cgrseg import SIZE_DIVISOR
from ..model.image_processing_cgrseg import CGRSegImageProcessingMixin
from ..model.image_reading_cgrseg import ImageSource, is_path, to_photo
from ..model.post_processing_cgrseg import label_map_dtype
from ..visualization import class_colors
from .image_rows import ImageRows, open_rows, read_reduced
from .label_map_files import check_strips_suffix, label_type, write_strips
from .pipeline import Pipeline
from .segmentation import Segmentation, count_pixels
from .tiff_files import find_georeference
from .tiling import TileGrid, TileSettings, Window, blend_into_strips, cut_windows


def segment_in_windows(
    pipeline: Pipeline,
    source: ImageSource,
    settings: TileSettings,
    batch_size: int = 1,
    output: Path | None = None,
    keep_rows: bool = False,
    progress: bool = False,
) -> Segmentation:
    """
    Segment one image in windows.

    Args:
        pipeline ([`Pipeline`]): The steps up to the logits.
        source (`ImageSource`): The image.
        settings ([`TileSettings`]): Sizes of the windows.
        batch_size (`int`, *optional*, defaults to 1): Windows that go through the network together.
        output (`Path`, *optional*): A `.npy` or TIFF file that the label map is written to as it is computed.
        keep_rows (`bool`, *optional*, defaults to `False`): Whether the segmentation keeps the image open.
        progress (`bool`, *optional*, defaults to `False`): Whether to show a progress bar of windows.

    Raises:
        UnreadableImageError: If the image cannot be read.
        ValueError: If the image processor is another model's, or the output does not fit.
    """
    if not isinstance(pipeline.image_processor, CGRSegImageProcessingMixin):
        raise ValueError("Windows (tile=…) are for CGRSeg and its image processors: leave out tile.")
    if output is not None:
        check_strips_suffix(output)
        if is_path(source) and output.exists() and output.samefile(source):
            raise ValueError(f"output={str(output)!r} is the photo itself: name another file.")
    open_source = partial(open_rows, source, pipeline.max_pixels, **pipeline.reading)
    image = open_source()
    id2label = pipeline.engine.config.id2label
    # Windows must fit the network, and the image processor's padding.
    divisor = pipeline.image_processor.size_divisor if pipeline.image_processor.do_pad else 1
    grid = TileGrid(image.size, settings, math.lcm(SIZE_DIVISOR, divisor))
    with tqdm(total=len(grid), unit="window", disable=not progress) as bar:
        logits = _run_windows(pipeline, image, grid, batch_size, bar)
        strips = blend_into_strips(logits, grid, label_map_dtype(len(id2label)))
        label_map, pixel_counts = _collect_strips(
            strips, image.size, id2label, output, find_georeference(source, len(id2label))
        )
    return Segmentation(
        label_map,
        id2label,
        size=image.size,
        pixel_counts=pixel_counts,
        source=source,
        read_photo=partial(_read_photo, (lambda: image) if keep_rows else open_source, pipeline.white),
    )


def _run_windows(
    pipeline: Pipeline, image: ImageRows, grid: TileGrid, batch_size: int, bar: tqdm
) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Yield row, column and logits of the windows; the next windows are read and prepared while these run."""
    height, width = grid.window_size
    settings = {"do_resize": False, "do_pad": True, "pad_size": {"height": height, "width": width}}

    def prepare(window: Window) -> tuple[int, int, torch.Tensor]:
        batch = pipeline.prepare(window.pixels, image.name, **settings)
        return window.row, window.column, batch["pixel_values"]

    cuts = cut_windows(image, grid, pipeline.image_processor.antialias)
    windows = pipeline.read_ahead(lambda cut: cut(), prepare, cuts, batch_size)
    while group := list(itertools.islice(windows, batch_size)):
        logits = pipeline.run([pixel_values for _, _, pixel_values in group])
        for (row, column, _), window_logits in zip(group, logits):
            yield row, column, window_logits
        bar.update(len(group))


def _collect_strips(
    strips: Iterable[np.ndarray],
    size: tuple[int, int],
    id2label: Mapping[int, str],
    output: Path | None,
    georeference: Mapping[str, Any],
) -> tuple[np.ndarray | Path, np.ndarray]:
    """Collect strips (rows, width) in an array or a file; return that and the pixels of each class (num_labels,)."""
    pixel_counts = np.zeros(len(id2label), dtype=np.int64)
    dtype = label_type(len(id2label))

    def count() -> Iterator[np.ndarray]:
        for strip in strips:
            np.add(pixel_counts, count_pixels(strip, len(id2label)), out=pixel_counts)
            yield strip.astype(dtype, copy=False)

    if output is not None:
        write_strips(output, count(), size, dtype, class_colors(id2label), georeference)
        return output, pixel_counts
    label_map = np.empty(size, dtype=dtype)
    top = 0
    for strip in count():
        label_map[top : top + len(strip)] = strip
        top += len(strip)
    return label_map, pixel_counts


def _read_photo(open_image: Callable[[], ImageRows], white: float | None, step: int) -> Image.Image:
    """Read every `step`-th pixel of an image in RGB."""
    return to_photo(read_reduced(open_image(), step), white)
