# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of any size, read a band of rows at a time."""

import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..model.image_reading_cgrseg import (
    TIFF_SUFFIXES,
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
from ..utils.optional import import_optional

# A TIFF whose parts unpack to more bytes than this cannot be read in little memory.
_LARGEST_SEGMENT = 2**28

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
    """

    def __init__(self, array: np.ndarray | torch.Tensor, name: str, num_channels: int = 3, **reading: Any):
        self._rows = to_channels_last(array, num_channels)
        super().__init__(name, tuple(self._rows.shape[:2]), num_channels=num_channels, **reading)
        self._highest = _estimate_highest(self._rows)

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
    The first page of a TIFF file whose strips or tiles are unpacked as they are needed.

    Args:
        path (`str` or `os.PathLike`): The file.
        num_channels (`int`, *optional*, defaults to 3): Channels that the model takes.
        is_label_map (`bool`, *optional*, defaults to `False`): Whether ids are read, not colours.

    Raises:
        UnreadableImageError: If its pixels are neither grey nor RGB, or one of its parts is too large.
    """

    def __init__(self, path: str | os.PathLike, num_channels: int = 3, is_label_map: bool = False, **reading: Any):
        tifffile = import_optional("tifffile", "large", "TIFF files of any size")
        self._file = tifffile.TiffFile(path)
        self._page = page = self._file.pages[0].keyframe
        size = (page.imagelength, page.imagewidth)
        super().__init__(one_line(path), size, num_channels=num_channels, **reading)
        if not is_label_map:
            self._check(tifffile, num_channels)
        self._segment_height, self._segment_width = (
            (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        )
        segment_bytes = self._segment_height * self._segment_width * page.samplesperpixel * page.dtype.itemsize
        if segment_bytes > _LARGEST_SEGMENT and not page.is_memmappable:
            raise UnreadableImageError(
                f"{self.name} is packed in parts of {segment_bytes / 2**20:.0f} MiB, too large to be read one at a "
                "time: write it anew in tiles, for instance by `tiffcp -t`."
            )

    def _check(self, tifffile: Any, num_channels: int) -> None:
        page = self._page
        known = [tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB]
        if page.compression == tifffile.COMPRESSION.JPEG:  # which is unpacked as RGB; others stay as they are stored
            known.append(tifffile.PHOTOMETRIC.YCBCR)
        is_planar = page.samplesperpixel > 1 and page.planarconfig != tifffile.PLANARCONFIG.CONTIG
        if page.photometric not in known or is_planar or page.dtype is None or page.imagedepth != 1:
            raise UnreadableImageError(
                f"{self.name} is a TIFF of a kind that is not read in windows ({page.photometric.name}, "
                f"{page.samplesperpixel} samples a pixel{', in planes' if is_planar else ''}): convert it to RGB or "
                "grey, pixel by pixel."
            )
        if page.samplesperpixel not in (1, 3, 4, num_channels):
            raise UnreadableImageError(
                f"{self.name} has {page.samplesperpixel} samples a pixel, and the model takes {num_channels}: write a "
                "TIFF of as many."
            )
        if page.samplesperpixel < 3 and page.photometric != tifffile.PHOTOMETRIC.MINISBLACK:
            # Of a field that cannot be read, tifffile takes the default: one sample, for which the data are no picture.
            raise UnreadableImageError(
                f"{self.name} cannot be read as an image: it is damaged ({page.photometric.name} of "
                f"{page.samplesperpixel} sample a pixel): replace it."
            )
        if page.dtype.kind not in "ub" or page.dtype.itemsize > 2:
            # Whole pictures of such values are scaled by their largest one, which no window knows.
            raise UnreadableImageError(
                f"{self.name} holds values of the type {page.dtype}; windows are read from 8 or 16 bits: convert it, "
                "or leave out tile."
            )
        if (orientation := page.tags.valueof("Orientation", 1)) != 1:
            raise UnreadableImageError(
                f"{self.name} is stored turned (orientation {orientation}): write it upright to read it in windows."
            )

    def read_stored(self, top: int, bottom: int) -> np.ndarray:
        """See [`ImageRows`]."""
        try:
            return self._read(top, bottom)
        except Exception as error:  # each way of packing has errors of its own
            reason = why_unreadable(error)
            if "imagecodecs" in str(error):
                reason = f'{error}; pip install "cgrseg_hf[large]" brings it.'
            raise UnreadableImageError(reason, self.name) from error

    def _read(self, top: int, bottom: int) -> np.ndarray:
        page = self._page
        if page.is_memmappable:
            rows = page.asarray(out="memmap").reshape(*self.size, page.samplesperpixel)
            return np.array(rows[top:bottom])
        band = np.zeros((bottom - top, self.size[1], page.samplesperpixel), dtype=page.dtype)
        across = -(-self.size[1] // self._segment_width)
        for row in range(top // self._segment_height, -(-bottom // self._segment_height)):
            for column in range(across):
                self._copy(band, top, row, column, row * across + column)
        return band

    def _copy(self, band: np.ndarray, top: int, row: int, column: int, index: int) -> None:
        """Unpack the part of the file that is `row` parts down and `column` across, and put it into its place."""
        page = self._page
        if not page.databytecounts[index]:
            return  # left out by whoever wrote it: 0
        self._file.filehandle.seek(page.dataoffsets[index])
        packed = self._file.filehandle.read(page.databytecounts[index])
        segment, _, _ = page.decode(packed, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
        first, left = row * self._segment_height, column * self._segment_width
        begin, end = max(first, top), min(first + self._segment_height, top + len(band))
        part = segment[0, begin - first : end - first, : self.size[1] - left]
        band[begin - top : end - top, left : left + part.shape[1]] = part


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
        rows = ArrayRows(read_image(source, limit, num_channels, **reading), name, num_channels, **reading)
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


def read_reduced(rows: ImageRows, step: int, as_stored: bool = False) -> np.ndarray:
    """Read every `step`-th pixel down and across: (height / step, width / step, channels)."""
    height = rows.size[0]
    band = max(_ROWS_AT_ONCE // step, 1) * step
    read = rows.read_stored if as_stored else rows.read
    return np.concatenate([read(top, min(top + band, height))[::step, ::step] for top in range(0, height, band)])
