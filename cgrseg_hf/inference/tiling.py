# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Images of any size in overlapping windows, in the memory that a row of windows needs.

Windows begin at multiples of 32 pixels, so that the logits of all windows lie on one grid, one position for every 8×8
pixels. The logits are blended on that grid, where they are 64 times fewer than pixels. Each strip of rows that no later
window changes becomes a strip of the label map. All pairs are (height, width) or (row, column).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial

import numpy as np
import torch

from ..model.configuration_cgrseg import SIZE_DIVISOR
from ..model.geometry_cgrseg import LOGITS_STRIDE, get_logits_size, round_up
from ..model.post_processing_cgrseg import label_map_from_logits
from .image_rows import ImageRows
from .resampling import compute_taps, resample_region

_SMALLEST_TILE = 64


@dataclass(frozen=True)
class TileSettings:
    """
    Settings that any image is cut into windows by.

    Args:
        tile (`int`):
            Height and width of a window in pixels; rounded up to a multiple of 32.
        overlap (`int`, *optional*):
            Pixels that neighbouring windows share at least; rounded up to a multiple of 32. By default a quarter of
            the tile.
        scale (`float`, *optional*, defaults to 1.0):
            Factor on the image's height and width at which the network sees it, to two decimal places. Tile and overlap
            are measured at this size.

    Raises:
        ValueError: If tile or scale are too small, or the overlap is more than half a tile.
    """

    tile: int
    overlap: int | None = None
    scale: float = 1.0

    def __post_init__(self):
        if not isinstance(self.tile, int) or self.tile < _SMALLEST_TILE:
            raise ValueError(f"tile={self.tile!r}: pass the side of a window in pixels, at least {_SMALLEST_TILE}.")
        overlap = self.tile // 4 if self.overlap is None else self.overlap
        if not isinstance(overlap, int) or not 0 <= overlap <= self.tile // 2:
            raise ValueError(
                f"overlap={overlap!r}: pass pixels from 0 to half of tile={self.tile}, such as a quarter of it."
            )
        if not (math.isfinite(self.scale) and 0.01 <= self.scale <= 100):
            raise ValueError(f"scale={self.scale!r}: pass a factor on the image's size, such as 0.5.")
        object.__setattr__(self, "overlap", overlap)


@dataclass(frozen=True)
class TileGrid:
    """
    The windows over one image.

    Args:
        size (`tuple[int, int]`):
            Height and width of the image.
        settings ([`TileSettings`]):
            Sizes of the windows.
        unit (`int`, *optional*, defaults to 32):
            Windows begin and end at multiples of this many pixels, itself a multiple of 32.
    """

    size: tuple[int, int]
    settings: TileSettings
    unit: int = SIZE_DIVISOR

    @cached_property
    def scale(self) -> Fraction:
        """The factor as a fraction, by which strips of logits and strips of pixels begin together."""
        return Fraction(self.settings.scale).limit_denominator(100)

    @cached_property
    def scaled_size(self) -> tuple[int, int]:
        """Height and width of the image as the network sees it."""
        return tuple(math.ceil(length * self.scale) for length in self.size)

    @cached_property
    def logits_size(self) -> tuple[int, int]:
        """Height and width of the whole image's logits."""
        return get_logits_size(self.scaled_size)

    @cached_property
    def window_size(self) -> tuple[int, int]:
        """Height and width of every window in pixels of the scaled image."""
        tile = round_up(self.settings.tile, self.unit)
        return tuple(min(tile, round_up(length, self.unit)) for length in self.scaled_size)

    @cached_property
    def starts(self) -> tuple[list[int], list[int]]:
        """First rows and first columns of the windows in pixels of the scaled image, evenly spread."""
        overlap = round_up(self.settings.overlap, self.unit)
        return tuple(
            place_windows(round_up(length, self.unit), window, overlap, self.unit)
            for length, window in zip(self.scaled_size, self.window_size)
        )

    @cached_property
    def logits_starts(self) -> tuple[list[int], list[int]]:
        """First rows and first columns of the windows' logits in the whole image's logits."""
        return tuple([start // LOGITS_STRIDE for start in starts] for starts in self.starts)

    @cached_property
    def weights(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Weights of the logits' rows for each row of windows, and of their columns for each column of windows."""
        overlap = round_up(self.settings.overlap, self.unit) // LOGITS_STRIDE
        return tuple(
            compute_blending_weights(starts, window // LOGITS_STRIDE, overlap, length)
            for starts, window, length in zip(self.logits_starts, self.window_size, self.logits_size)
        )

    def __len__(self) -> int:
        return len(self.starts[0]) * len(self.starts[1])


def place_windows(length: int, window: int, overlap: int, unit: int) -> list[int]:
    """Spread windows over a side so that they share at least the overlap; all lengths are multiples of the unit."""
    span = length - window
    if span <= 0:
        return [0]
    steps = -(-span // max(window - overlap, unit))
    return [round(index * span / steps / unit) * unit for index in range(steps + 1)]


def compute_blending_weights(starts: list[int], window: int, overlap: int, length: int) -> list[torch.Tensor]:
    """
    Compute weights of windows along a side: they rise over the overlap, fall again, and sum to 1 at every position.

    Args:
        starts (`list[int]`): First positions of the windows.
        window (`int`): Positions of each window.
        overlap (`int`): Positions over which the weights rise.
        length (`int`): Positions of the side; the last window may reach beyond it.

    Returns:
        `list[torch.Tensor]`: for each window the weights of its positions on the side, `(positions,)`, float32.
    """
    distance_to_border = torch.arange(window, dtype=torch.float64) + 0.5
    ramp = (torch.minimum(distance_to_border, distance_to_border.flip(0)) / max(overlap, 1)).clamp(max=1)
    parts = [slice(start, min(start + window, length)) for start in starts]
    total = torch.zeros(length, dtype=torch.float64)
    for part in parts:
        total[part] += ramp[: part.stop - part.start]
    return [(ramp[: part.stop - part.start] / total[part]).float() for part in parts]


@dataclass
class Window:
    """
    The pixels of one window.

    Args:
        row (`int`), column (`int`): The window's place among the windows.
        pixels (`numpy.ndarray` or `torch.Tensor` of shape `(height, width, channels)`):
            The image in the window; shorter than the window where that reaches beyond the image.
    """

    row: int
    column: int
    pixels: np.ndarray | torch.Tensor


def cut_windows(image: ImageRows, grid: TileGrid, antialias: bool = False) -> Iterator[Callable[[], Window]]:
    """
    Yield functions that cut the windows out of an image, row by row; each row of windows is read once.

    Args:
        image ([`ImageRows`]): The image.
        grid ([`TileGrid`]): The windows.
        antialias (`bool`, *optional*, defaults to `False`): Whether to smooth where the image is made smaller.
    """
    scale = float(grid.scale)
    for row, top in enumerate(grid.starts[0]):
        rows = slice(top, min(top + grid.window_size[0], grid.scaled_size[0]))
        first_row, last_row = _find_source_range(rows, scale, grid.size[0], antialias)
        band = image.read(first_row, last_row)
        for column, left in enumerate(grid.starts[1]):
            columns = slice(left, min(left + grid.window_size[1], grid.scaled_size[1]))
            yield partial(_cut_window, band, first_row, (row, column), (rows, columns), grid, antialias)


def _cut_window(
    band: np.ndarray,
    first_row: int,
    place: tuple[int, int],
    region: tuple[slice, slice],
    grid: TileGrid,
    antialias: bool,
) -> Window:
    """Cut a region (rows, columns) of the scaled image out of a band of the image that begins at `first_row`."""
    scale = float(grid.scale)
    left, right = _find_source_range(region[1], scale, grid.size[1], antialias)
    pixels = band[:, left:right]
    if scale != 1:
        pixels = resample_region(pixels, (first_row, left), region, scale, grid.size, antialias)
    return Window(*place, pixels)


def _find_source_range(region: slice, scale: float, length: int, antialias: bool) -> tuple[int, int]:
    """Find the positions, from the first to before the last, that a region of a resized side is made of."""
    if scale == 1:
        return region.start, region.stop
    first, last = (
        compute_taps(slice(at, at + 1), scale, length, antialias)[0] for at in (region.start, region.stop - 1)
    )
    return int(first.min()), int(last.max()) + 1


def blend_into_strips(
    window_logits: Iterable[tuple[int, int, torch.Tensor]], grid: TileGrid, dtype: torch.dtype = torch.uint8
) -> Iterator[np.ndarray]:
    """
    Blend the logits of windows, and yield the label map in strips of rows as they become final.

    Blending is written by hand, since libraries blend windows of pixels: 64 times the memory, of the whole image.

    Args:
        window_logits (`Iterable`):
            Row and column of each window, and its logits `(num_labels, window height / 8, window width / 8)`, row by
            row.
        grid ([`TileGrid`]):
            The windows.
        dtype (`torch.dtype`, *optional*, defaults to `torch.uint8`):
            Type of the strips.

    Returns:
        `Iterator[numpy.ndarray]`: arrays `(rows, width)` that make up the label map, from top to bottom.
    """
    num_logits_rows, num_logits_columns = grid.logits_size
    row_starts, column_starts = grid.logits_starts
    row_weights, column_weights = grid.weights
    # Blended logits (num_labels, rows, columns), the logits row that is their first, and the next pixel row to yield.
    blended, logits_row, pixel_row = None, 0, 0
    for row, column, logits in window_logits:
        weights = (row_weights[row][:, None] * column_weights[column]).to(logits.device)
        height, width = weights.shape
        top, left = row_starts[row] - logits_row, column_starts[column]
        if column == 0:
            taller = logits.new_zeros(len(logits), top + height, num_logits_columns)
            if blended is not None:
                taller[:, : blended.shape[1]] = blended
            blended = taller
        blended[:, top : top + height, left : left + width].addcmul_(logits[:, :height, :width], weights)
        if column < len(column_starts) - 1:
            continue
        is_last_row = row == len(row_starts) - 1
        final_logits_row = num_logits_rows if is_last_row else row_starts[row + 1]
        final_pixel_row = grid.size[0] if is_last_row else _count_final_pixel_rows(final_logits_row, grid.scale)
        if final_pixel_row > pixel_row:
            final = blended[:, : final_logits_row - logits_row]
            yield _classify_strip(final, logits_row, slice(pixel_row, final_pixel_row), grid, dtype)
            pixel_row = final_pixel_row
            next_logits_row = _find_first_logits_row(pixel_row, grid.scale)
            blended, logits_row = blended[:, next_logits_row - logits_row :].clone(), next_logits_row


def _count_final_pixel_rows(num_logits_rows: int, scale: Fraction) -> int:
    """Count the pixel rows above the centre of the last of so many logits rows: later rows do not change them."""
    return max(math.ceil((num_logits_rows - Fraction(1, 2)) * LOGITS_STRIDE / scale - Fraction(1, 2)), 0)


def _find_first_logits_row(pixel_row: int, scale: Fraction) -> int:
    """Find the last logits row that begins where a pixel row does and is not below what a pixel row needs."""
    above = max(math.floor((pixel_row + Fraction(1, 2)) * scale / LOGITS_STRIDE - Fraction(1, 2)), 0)
    return above // _compute_period(scale) * _compute_period(scale)


def _compute_period(scale: Fraction) -> int:
    """Compute after how many positions of the logits one begins again where a pixel does."""
    return (scale / LOGITS_STRIDE).numerator


def _classify_strip(
    logits: torch.Tensor, logits_row: int, pixel_rows: slice, grid: TileGrid, dtype: torch.dtype
) -> np.ndarray:
    """Classify rows of pixels from logits (num_labels, rows, columns) that begin at row `logits_row` of all."""
    scale, width = grid.scale, grid.size[1]
    first_pixel_row = int(logits_row * LOGITS_STRIDE / scale)
    if scale == 1:
        image_size = target_size = (min(logits.shape[1] * LOGITS_STRIDE, grid.size[0] - first_pixel_row), width)
    else:
        # So many positions that the ratio of their pixels to the label map's is the scale, without a remainder.
        padding = [-length % _compute_period(scale) for length in logits.shape[1:]]
        logits = torch.nn.functional.pad(logits, (0, padding[1], 0, padding[0]), mode="replicate")
        image_size = tuple(length * LOGITS_STRIDE for length in logits.shape[1:])
        target_size = tuple(int(length / scale) for length in image_size)
    strip = label_map_from_logits(logits, image_size, target_size, dtype=dtype)
    return strip[pixel_rows.start - first_pixel_row : pixel_rows.stop - first_pixel_row, :width].cpu().numpy()
