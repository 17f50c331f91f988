# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of any size through a network in overlapping windows, in memory that a row of windows needs.

Windows begin at multiples of 32 pixels, so that the logits of all lie on one grid with a position for every 8×8 pixels.
They are blended there, where they are 64 times fewer than pixels, and each strip of rows that no later window changes
becomes a strip of the label map.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import torch

from ..model.configuration_cgrseg import SIZE_DIVISOR
from ..model.geometry_cgrseg import LOGITS_STRIDE
from ..model.post_processing_cgrseg import label_map_from_logits
from .image_rows import ImageRows
from .resampling import resample, taps

_SMALLEST_TILE = 64


@dataclass(frozen=True)
class TileSettings:
    """
    How a picture is cut into windows.

    Args:
        tile (`int`):
            Height and width of a window in pixels; rounded up to a multiple of 32.
        overlap (`int`, *optional*):
            Pixels that neighbouring windows share at least; rounded up to a multiple of 32. By default a quarter of
            the tile.
        scale (`float`, *optional*, defaults to 1.0):
            Size at which the network sees the picture, as a factor on its height and width; two digits behind the
            point count. Tile and overlap are measured at this size.

    Raises:
        ValueError: If tile or scale are too small, or the overlap leaves no step.
    """

    tile: int
    overlap: int | None = None
    scale: float = 1.0

    def __post_init__(self):
        if not isinstance(self.tile, int) or self.tile < _SMALLEST_TILE:
            raise ValueError(f"tile={self.tile!r}: give the side of a window in pixels, at least {_SMALLEST_TILE}.")
        overlap = self.tile // 4 if self.overlap is None else self.overlap
        if not isinstance(overlap, int) or not 0 <= overlap <= self.tile // 2:
            raise ValueError(
                f"overlap={overlap!r}: give pixels from 0 to half of tile={self.tile}, such as a quarter of it."
            )
        if not (math.isfinite(self.scale) and 0.01 <= self.scale <= 100):
            raise ValueError(f"scale={self.scale!r}: give a factor on the picture's size, such as 0.5.")
        object.__setattr__(self, "overlap", overlap)


@dataclass(frozen=True)
class TileGrid:
    """
    The windows over one picture.

    Args:
        size (`tuple[int, int]`):
            Height and width of the picture.
        settings ([`TileSettings`]):
            How it is cut.
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
        """Height and width of the picture as the network sees it."""
        return tuple(math.ceil(length * self.scale) for length in self.size)

    @cached_property
    def logits_size(self) -> tuple[int, int]:
        """Height and width of the whole picture's logits."""
        return tuple(-(-length // LOGITS_STRIDE) for length in self.scaled_size)

    @cached_property
    def window_size(self) -> tuple[int, int]:
        """Height and width of every window in pixels."""
        tile = _round_up(self.settings.tile, self.unit)
        return tuple(min(tile, _round_up(length, self.unit)) for length in self.scaled_size)

    @cached_property
    def starts(self) -> tuple[list[int], list[int]]:
        """First rows and first columns of the windows in pixels; they are spread evenly."""
        overlap = _round_up(self.settings.overlap, self.unit)
        return tuple(
            place_windows(_round_up(length, self.unit), window, overlap, self.unit)
            for length, window in zip(self.scaled_size, self.window_size)
        )

    @cached_property
    def weights(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """For each row of windows the weights of its logits' rows, and for each column those of its columns."""
        overlap = _round_up(self.settings.overlap, self.unit) // LOGITS_STRIDE
        return tuple(
            blending_weights([start // LOGITS_STRIDE for start in starts], window // LOGITS_STRIDE, overlap, length)
            for starts, window, length in zip(self.starts, self.window_size, self.logits_size)
        )

    def __len__(self) -> int:
        return len(self.starts[0]) * len(self.starts[1])


def place_windows(length: int, window: int, overlap: int, unit: int) -> list[int]:
    """Where windows begin that cover a side and share at least the overlap; all lengths are multiples of the unit."""
    span = length - window
    if span <= 0:
        return [0]
    steps = -(-span // max(window - overlap, unit))
    return [round(index * span / steps / unit) * unit for index in range(steps + 1)]


def blending_weights(starts: list[int], window: int, overlap: int, length: int) -> list[torch.Tensor]:
    """
    Weights of windows along a side: they rise over the overlap, fall again, and sum to one at every position.

    Args:
        starts (`list[int]`): First positions of the windows.
        window (`int`): Positions of each.
        overlap (`int`): Positions over which the weights rise.
        length (`int`): Positions of the side; the last window may reach beyond it.

    Returns:
        `list[torch.Tensor]`: the weights of each window's positions that lie on the side, float32.
    """
    to_border = torch.arange(window, dtype=torch.float64) + 0.5
    rising = (torch.minimum(to_border, to_border.flip(0)) / max(overlap, 1)).clamp(max=1)
    parts = [(slice(start, min(start + window, length))) for start in starts]
    total = torch.zeros(length, dtype=torch.float64)
    for part in parts:
        total[part] += rising[: part.stop - part.start]
    return [(rising[: part.stop - part.start] / total[part]).float() for part in parts]


@dataclass
class Window:
    """
    One window's pixels.

    Args:
        row (`int`), column (`int`): Which one it is.
        pixels (`numpy.ndarray` or `torch.Tensor` of shape `(height, width, channels)`):
            The picture in it, without what of the window lies beyond the picture.
    """

    row: int
    column: int
    pixels: np.ndarray | torch.Tensor


def read_windows(picture: ImageRows, grid: TileGrid, antialias: bool = False) -> Iterator[Callable[[], Window]]:
    """
    Functions that cut the windows out of a picture, row by row; each row of windows is read once.

    Args:
        picture ([`ImageRows`]): The picture.
        grid ([`TileGrid`]): The windows.
        antialias (`bool`, *optional*, defaults to `False`): Whether to smooth where the picture is made smaller.
    """
    scale = float(grid.scale)
    for row, start in enumerate(grid.starts[0]):
        rows = slice(start, min(start + grid.window_size[0], grid.scaled_size[0]))
        top, bottom = _needed(rows, scale, grid.size[0], antialias)
        band = picture.read(top, bottom)
        for column, left in enumerate(grid.starts[1]):
            columns = slice(left, min(left + grid.window_size[1], grid.scaled_size[1]))
            yield _Cut(band, top, row, column, (rows, columns), grid, antialias)


@dataclass
class _Cut:
    band: np.ndarray
    top: int
    row: int
    column: int
    region: tuple[slice, slice]
    grid: TileGrid
    antialias: bool

    def __call__(self) -> Window:
        scale = float(self.grid.scale)
        left, right = _needed(self.region[1], scale, self.grid.size[1], self.antialias)
        pixels = self.band[:, left:right]
        if scale != 1:
            pixels = resample(pixels, (self.top, left), self.region, scale, self.grid.size, self.antialias)
        return Window(self.row, self.column, pixels)


def _needed(region: slice, scale: float, length: int, antialias: bool) -> tuple[int, int]:
    """First and last but one of a side's pixels that a region of the resized side is made of."""
    if scale == 1:
        return region.start, region.stop
    ends = [taps(slice(at, at + 1), scale, length, antialias)[0] for at in (region.start, region.stop - 1)]
    return int(ends[0].min()), int(ends[1].max()) + 1


def blend_into_strips(
    logits: Iterable[tuple[int, int, torch.Tensor]], grid: TileGrid, label_type: torch.dtype = torch.uint8
) -> Iterator[np.ndarray]:
    """
    Blend the windows' logits, and give the label map in strips of rows as they become final.

    Args:
        logits (`Iterable`):
            Row and column of each window, and its logits `(num_labels, window height / 8, window width / 8)`, row by
            row.
        grid ([`TileGrid`]):
            The windows.
        label_type (`torch.dtype`, *optional*, defaults to `torch.uint8`):
            Type of the strips.

    Returns:
        `Iterator[numpy.ndarray]`: arrays `(rows, width)` that make up the label map, from top to bottom.
    """
    length, width = grid.logits_size
    down, across = grid.weights
    starts = [[start // LOGITS_STRIDE for start in starts] for starts in grid.starts]
    held, first, done = None, 0, 0  # rows of blended logits, which of all is the first, rows of pixels given out
    for row, column, of_window in logits:
        begin, left = starts[0][row], starts[1][column]
        weights = (down[row][:, None] * across[column]).to(of_window.device)
        height_inside, width_inside = weights.shape
        if column == 0:
            held = _extend(held, begin + height_inside - first, (len(of_window), width), of_window)
        part = held[:, begin - first : begin - first + height_inside, left : left + width_inside]
        part.addcmul_(of_window[:, :height_inside, :width_inside], weights)
        if column < len(starts[1]) - 1:
            continue
        final = length if row == len(starts[0]) - 1 else starts[0][row + 1]
        known = grid.size[0] if final == length else _rows_known(final, grid.scale)
        if known > done:
            yield _classify_strip(held[:, : final - first], first, done, known, grid, label_type)
            done = known
            next_first = _first_row_needed(done, grid.scale)
            held, first = held[:, next_first - first :].clone(), next_first


def _extend(held: torch.Tensor | None, num_rows: int, other_sizes: tuple[int, int], like: torch.Tensor) -> torch.Tensor:
    num_labels, width = other_sizes
    extended = like.new_zeros(num_labels, num_rows, width)
    if held is not None:
        extended[:, : held.shape[1]] = held
    return extended


def _rows_known(num_rows: int, scale: Fraction) -> int:
    """How many rows of pixels lie above the centre of the last of so many rows of logits."""
    return max(math.ceil((num_rows - Fraction(1, 2)) * LOGITS_STRIDE / scale - Fraction(1, 2)), 0)


def _first_row_needed(row: int, scale: Fraction) -> int:
    """The last row of logits that begins where a row of pixels does and is not below what pixel row `row` needs."""
    above = max(math.floor((row + Fraction(1, 2)) * scale / LOGITS_STRIDE - Fraction(1, 2)), 0)
    return above // _period(scale) * _period(scale)


def _period(scale: Fraction) -> int:
    """Every so many positions of the logits, one begins where a pixel does."""
    return (scale / LOGITS_STRIDE).numerator


def _classify_strip(
    logits: torch.Tensor, first: int, begin: int, end: int, grid: TileGrid, label_type: torch.dtype
) -> np.ndarray:
    """Rows of pixels from `begin` to before `end` from rows of logits of which the first is row `first` of all."""
    scale, width = grid.scale, grid.size[1]
    first_pixel = int(first * LOGITS_STRIDE / scale)
    if scale == 1:
        image_size = target_size = (min(logits.shape[1] * LOGITS_STRIDE, grid.size[0] - first_pixel), width)
    else:
        # So many positions that the ratio of their pixels to the label map's is the scale, without a remainder.
        padding = [-length % _period(scale) for length in logits.shape[1:]]
        logits = torch.nn.functional.pad(logits, (0, padding[1], 0, padding[0]), mode="replicate")
        image_size = tuple(length * LOGITS_STRIDE for length in logits.shape[1:])
        target_size = tuple(int(length / scale) for length in image_size)
    strip = label_map_from_logits(logits, image_size, target_size, dtype=label_type)
    return strip[begin - first_pixel : end - first_pixel, :width].cpu().numpy()


def _round_up(length: int, unit: int) -> int:
    return -(-length // unit) * unit
