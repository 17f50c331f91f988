# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of any size, read a band of rows at a time."""

import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..model.image_formats_cgrseg import TIFF_SUFFIXES
from ..model.image_reading_cgrseg import (
    ImageSource,
    UnreadableImageError,
    check_is_file,
    describe_source,
    is_path,
    read_image,
    to_channels_last,
    to_pixels,
    why_unreadable,
)
from ..utils.messages import one_line
from .tiff_files import make_window, open_tiff, read_tags

# A TIFF whose parts unpack to more bytes than this cannot be read in little memory.
_LARGEST_PART = 2**28
_NUM_BITS = (1, 2, 4, 8, 16, 32, 64)
_DTYPES = ("uint8", "uint16", "float32", "float64")

# Tags of TIFF, and values of them.
_BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 258, 259, 262, 274
_GREY_OR_RGB = (1, 2)
_YCBCR = 6

_ROWS_AT_ONCE = 512
_PIXELS_SAMPLED = 2**20


class ImageRows(ABC):
    """
    An image that is read in bands of rows.

    Args:
        name (`str`): Name of the image in messages.
        size (`tuple[int, int]`): Height and width in pixels.
        **reading (`Any`): What `to_pixels` needs of the image processor's settings.
    """

    def __init__(self, name: str, size: tuple[int, int], **reading: Any):
        self.name = name
        self.size = size
        self._reading = reading
        self._highest: float | None = None  # of an image in floats

    def read(self, top: int, bottom: int) -> np.ndarray:
        """Read the rows from `top` to before `bottom` as pixels (rows, width, channels), see `to_pixels`."""
        rows = self.read_stored(top, bottom)
        pixels = to_pixels(
            rows, input_data_format="channels_last", name=self.name, highest=self._highest, **self._reading
        )
        return pixels.permute(1, 2, 0).numpy()

    @abstractmethod
    def read_stored(self, top: int, bottom: int) -> np.ndarray:
        """Read the rows with the values that are stored."""


class ArrayRows(ImageRows):
    """
    An array, in memory or mapped by whoever passes it.

    Args:
        array (`numpy.ndarray` or `torch.Tensor`): The pixels, of any layout.
        name (`str`): Name of the array in messages.
        num_channels (`int`, *optional*, defaults to 3), reading (`Any`): See [`ImageRows`].
        highest (`float`, *optional*): Highest possible value of floats; by default estimated from the array.
    """

    def __init__(
        self,
        array: np.ndarray | torch.Tensor,
        name: str,
        num_channels: int = 3,
        highest: float | None = None,
        **reading: Any,
    ):
        self._rows = to_channels_last(array, num_channels)
        super().__init__(name, tuple(self._rows.shape[:2]), num_channels=num_channels, **reading)
        self._highest = _estimate_highest(self._rows) if highest is None else highest

    def read_stored(self, top: int, bottom: int) -> np.ndarray | torch.Tensor:
        """See [`ImageRows`]."""
        return self._rows[top:bottom]


class NpyRows(ArrayRows):
    """
    A `.npy` file, mapped anew for each band: pages that stay mapped would count as memory of this process.

    Args:
        path (`str` or `os.PathLike`): The file.
        num_channels (`int`, *optional*, defaults to 3), reading (`Any`): See [`ImageRows`].
    """

    def __init__(self, path: str | os.PathLike, num_channels: int = 3, **reading: Any):
        self._path = path
        try:
            array = self._map()
        except (ValueError, EOFError) as error:  # NumPy's words would advise to unpickle it
            raise UnreadableImageError(
                "it is not a NumPy file of plain numbers, or it is cut off: write it anew with numpy.save.",
                one_line(path),
            ) from error
        if array.ndim not in (2, 3):
            raise UnreadableImageError(
                f"an array of shape {array.shape} is not an image: give it 2 or 3 dimensions.", one_line(path)
            )
        super().__init__(array, one_line(path), num_channels, **reading)
        del self._rows

    def _map(self) -> np.ndarray:
        return np.load(self._path, mmap_mode="r")

    def read_stored(self, top: int, bottom: int) -> np.ndarray:
        """See [`ImageRows`]."""
        return to_channels_last(self._map(), self._reading["num_channels"])[top:bottom]


class TiffRows(ImageRows):
    """
    The first page of a TIFF file, whose strips or tiles are unpacked as they are needed.

    Args:
        path (`str` or `os.PathLike`): The file.
        num_channels (`int`, *optional*, defaults to 3): See [`ImageRows`].

    Raises:
        UnreadableImageError: If its pixels are neither grey nor RGB, or one of its parts is too large.
    """

    def __init__(self, path: str | os.PathLike, num_channels: int = 3, **reading: Any):
        self._path = path
        self._tags = read_tags(path)
        with open_tiff(path) as file:
            super().__init__(one_line(path), (file.height, file.width), num_channels=num_channels, **reading)
            self._check(file, num_channels)
            if file.dtypes[0].startswith("float"):
                step = max(math.isqrt(math.prod(self.size) // _PIXELS_SAMPLED), 1)
                shape = (file.count, *(-(-length // step) for length in self.size))
                self._highest = float(file.read(out_shape=shape).max())

    def _check(self, file: Any, num_channels: int) -> None:
        """Refuse what windows cannot be read from as from the whole image."""
        color = self._tags.get(_PHOTOMETRIC, 1)
        is_packed_jpeg = self._tags.get(_COMPRESSION) == 7  # unpacked as RGB
        dtype, bits = file.dtypes[0], self._num_bits
        height, width = file.block_shapes[0]
        part_bytes = height * width * file.count * np.dtype(dtype).itemsize
        orientation = self._tags.get(_ORIENTATION, 1)
        reason = None
        if color not in _GREY_OR_RGB and not (color == _YCBCR and is_packed_jpeg):
            reason = f"its colours are neither grey nor RGB (photometric interpretation {color}): convert it to RGB."
        elif file.count not in (1, 3, 4, num_channels):
            reason = f"it has {file.count} samples a pixel, and the model takes {num_channels}: write as many."
        elif dtype not in _DTYPES or bits not in _NUM_BITS:
            # Whole images of such values are scaled by their largest one, which no window knows.
            reason = (
                f"it holds values of the type {dtype} with {bits} bits; windows are read from 1 to 8 or 16 bits, or "
                "floats: convert it, or leave out tile."
            )
        elif orientation != 1:
            reason = f"it is stored turned (orientation {orientation}): write it upright to read it in windows."
        elif part_bytes > _LARGEST_PART:
            reason = (
                f"it is packed in parts of {part_bytes / 2**20:.0f} MiB, too large to be read one at a time: write it "
                "anew in tiles, for instance with `gdal_translate -co TILED=YES`."
            )
        if reason is not None:
            raise UnreadableImageError(reason, self.name)

    @property
    def _num_bits(self) -> int:
        return max(self._tags.get(_BITS_PER_SAMPLE, (1,)))

    def read_stored(self, top: int, bottom: int) -> np.ndarray:
        """See [`ImageRows`]."""
        try:
            with open_tiff(self._path) as file:
                rows = np.moveaxis(file.read(window=make_window(top, bottom, self.size[1])), 0, -1)
        except Exception as error:  # each way of packing has errors of its own
            raise UnreadableImageError(why_unreadable(error), self.name) from error
        return rows * np.uint8(255 // (2**self._num_bits - 1)) if self._num_bits < 8 else rows


def open_rows(source: ImageSource, max_pixels: int | None = None, num_channels: int = 3, **reading: Any) -> ImageRows:
    """
    Open an image to read it in bands.

    Args:
        source (`ImageSource`):
            The image. TIFF and `.npy` files and arrays are read band by band. Others, such as JPEG, have to be decoded
            as a whole first.
        max_pixels (`int`, *optional*):
            Largest allowed number of pixels; by default any.
        num_channels (`int`, *optional*, defaults to 3), **reading (`Any`):
            The image processor's settings, see `read_image`.

    Raises:
        UnreadableImageError: If it is not an image, is damaged, or has too many pixels.
    """
    limit = max_pixels or 2**62
    name = describe_source(source)
    suffix = Path(source).suffix.lower() if is_path(source) else ""
    if suffix in (*TIFF_SUFFIXES, ".npy"):
        rows = _open_file(NpyRows if suffix == ".npy" else TiffRows, source, num_channels, **reading)
    elif isinstance(source, np.ndarray | torch.Tensor):
        rows = ArrayRows(source, name, num_channels, **reading)
    else:
        pixels = read_image(source, limit, num_channels, **reading)
        rows = ArrayRows(pixels, name, num_channels, highest=255.0, **reading)  # floats are scaled already
    if not math.prod(rows.size):
        raise UnreadableImageError("it has no pixels: pass an image with some.", name)
    if math.prod(rows.size) > limit:
        raise UnreadableImageError(
            f"it has {math.prod(rows.size):,} pixels, more than max_pixels={limit:,}: pass a larger max_pixels, or "
            "leave it out.",
            name,
            has_too_many_pixels=True,
            size=rows.size,
        )
    return rows


def _estimate_highest(rows: np.ndarray | torch.Tensor) -> float | None:
    """Estimate the highest value of an image in floats from pixels all over it; None for integers."""
    is_floating = rows.is_floating_point() if isinstance(rows, torch.Tensor) else rows.dtype.kind == "f"
    step = max(math.isqrt(rows.shape[0] * rows.shape[1] // _PIXELS_SAMPLED), 1)
    return float(rows[::step, ::step].max()) if is_floating and 0 not in rows.shape else None


def _open_file(kind: type[ImageRows], path: str | os.PathLike, *arguments: Any, **settings: Any) -> ImageRows:
    try:
        check_is_file(path)
        return kind(path, *arguments, **settings)
    except (UnreadableImageError, ImportError):
        raise
    except Exception as error:  # what a broken file leads to depends on where it is broken
        raise UnreadableImageError(why_unreadable(error), one_line(path)) from error


def read_reduced(rows: ImageRows, step: int) -> np.ndarray:
    """Read every `step`-th pixel down and across: (height / step, width / step, channels)."""
    height = rows.size[0]
    band = max(_ROWS_AT_ONCE // step, 1) * step
    return np.concatenate([rows.read(top, min(top + band, height))[::step, ::step] for top in range(0, height, band)])
