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
    NotPixelsError,
    PictureSource,
    UnreadablePictureError,
    check_is_file,
    describe_source,
    is_path,
    open_picture,
    pil_to_array,
    scale_floats,
    to_plain_values,
    to_rows,
    why_unreadable,
)
from ..utils.messages import one_line
from ..utils.optional import import_optional

# A TIFF whose parts unpack to more bytes than this cannot be read in little memory.
_LARGEST_SEGMENT = 2**28

_ROWS_AT_ONCE = 512
_PIXELS_SAMPLED = 2**20


class PictureRows(ABC):
    """
    A picture that gives bands of its rows.

    Attributes:
        size (`tuple[int, int]`): Height and width in pixels.
    """

    size: tuple[int, int]

    @abstractmethod
    def read(self, top: int, bottom: int) -> np.ndarray:
        """The rows from `top` to before `bottom`, (rows, width, channels); those of 16 bits brought to 8."""


class ArrayRows(PictureRows):
    """
    An array, in memory or mapped by whoever passes it.

    Args:
        rows (`numpy.ndarray` of shape `(height, width, channels)`): The pixels.
        name (`str`): What to call it in a message.
    """

    def __init__(self, rows: np.ndarray, name: str):
        self.rows = rows
        self.size = rows.shape[:2]
        self._name = name
        self._sample = _sample_floats(rows)

    def read(self, top: int, bottom: int) -> np.ndarray:
        """See [`PictureRows`]."""
        return to_plain_values(scale_floats(np.array(self.rows[top:bottom]), self._name, self._sample))


class NpyRows(PictureRows):
    """
    A `.npy` file, mapped anew for each band: pages that stay mapped would count as memory of this process.

    Args:
        path (`str` or `os.PathLike`): The file.
        num_channels (`int`, *optional*, defaults to 3): Channels that the model takes.
    """

    def __init__(self, path: str | os.PathLike, num_channels: int = 3):
        self._path = path
        self._num_channels = num_channels
        try:
            shape = np.load(path, mmap_mode="r").shape
        except (ValueError, EOFError) as error:  # NumPy's words would advise to unpickle it
            raise NotPixelsError(
                "it is no NumPy file of plain numbers, or is cut off: write it anew by numpy.save."
            ) from error
        if len(shape) not in (2, 3):
            raise NotPixelsError(f"an array of shape {shape} is no picture: give it 2 or 3 dimensions.")
        try:
            rows = self._map()
        except UnreadablePictureError as error:  # whose words name no file
            raise UnreadablePictureError(f"{one_line(path)} cannot be used: {error}") from error
        self.size = rows.shape[:2]
        self._sample = _sample_floats(rows)

    def _map(self) -> np.ndarray:
        return to_rows(np.load(self._path, mmap_mode="r"), self._num_channels)

    def read(self, top: int, bottom: int) -> np.ndarray:
        """See [`PictureRows`]."""
        return to_plain_values(scale_floats(np.array(self._map()[top:bottom]), one_line(self._path), self._sample))


class TiffRows(PictureRows):
    """
    The first page of a TIFF file whose strips or tiles are unpacked as they are needed.

    Args:
        path (`str` or `os.PathLike`): The file.
        num_channels (`int`, *optional*, defaults to 3): Channels that the model takes.
        is_label_map (`bool`, *optional*, defaults to `False`): Whether ids are read, not colours.

    Raises:
        UnreadablePictureError: If its pixels are neither grey nor RGB, or one of its parts is too large.
    """

    def __init__(self, path: str | os.PathLike, num_channels: int = 3, is_label_map: bool = False):
        tifffile = import_optional("tifffile", "large", "TIFF files of any size")
        self._name = one_line(path)
        self._file = tifffile.TiffFile(path)
        self._page = page = self._file.pages[0].keyframe
        self.size = (page.imagelength, page.imagewidth)
        self._is_label_map = is_label_map
        if not is_label_map:
            self._check(tifffile, num_channels)
        self._segment_height, self._segment_width = (
            (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        )
        segment_bytes = self._segment_height * self._segment_width * page.samplesperpixel * page.dtype.itemsize
        if segment_bytes > _LARGEST_SEGMENT and not page.is_memmappable:
            raise UnreadablePictureError(
                f"{self._name} is packed in parts of {segment_bytes / 2**20:.0f} MiB, too large to be read one at a "
                "time: write it anew in tiles, for instance by `tiffcp -t`."
            )

    def _check(self, tifffile: Any, num_channels: int) -> None:
        page = self._page
        known = [tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB]
        if page.compression == tifffile.COMPRESSION.JPEG:  # which is unpacked as RGB; others stay as they are stored
            known.append(tifffile.PHOTOMETRIC.YCBCR)
        is_planar = page.samplesperpixel > 1 and page.planarconfig != tifffile.PLANARCONFIG.CONTIG
        if page.photometric not in known or is_planar or page.dtype is None or page.imagedepth != 1:
            raise UnreadablePictureError(
                f"{self._name} is a TIFF of a kind that is not read in windows ({page.photometric.name}, "
                f"{page.samplesperpixel} samples a pixel{', in planes' if is_planar else ''}): convert it to RGB or "
                "grey, pixel by pixel."
            )
        if page.samplesperpixel not in (1, 3, 4, num_channels):
            raise UnreadablePictureError(
                f"{self._name} has {page.samplesperpixel} samples a pixel, and the model takes {num_channels}: write a "
                "TIFF of as many."
            )
        if page.samplesperpixel < 3 and page.photometric != tifffile.PHOTOMETRIC.MINISBLACK:
            # Of a field that cannot be read, tifffile takes the default: one sample, for which the data are no picture.
            raise UnreadablePictureError(
                f"{self._name} cannot be read as a picture: it is damaged ({page.photometric.name} of "
                f"{page.samplesperpixel} sample a pixel): replace it."
            )
        if page.dtype.kind not in "ub" or page.dtype.itemsize > 2:
            # Whole pictures of such values are scaled by their largest one, which no window knows.
            raise UnreadablePictureError(
                f"{self._name} holds values of the type {page.dtype}; windows are read from 8 or 16 bits: convert it, "
                "or leave out tile."
            )
        if (orientation := page.tags.valueof("Orientation", 1)) != 1:
            raise UnreadablePictureError(
                f"{self._name} is stored turned (orientation {orientation}): write it upright to read it in windows."
            )

    def read(self, top: int, bottom: int) -> np.ndarray:
        """See [`PictureRows`]."""
        try:
            return self._read(top, bottom)
        except Exception as error:  # each way of packing has errors of its own
            reason = why_unreadable(error)
            if "imagecodecs" in str(error):
                reason = f'{error}; pip install "cgrseg_hf[large]" brings it.'
            raise UnreadablePictureError(f"{self._name} cannot be read as a picture: {reason}") from error

    def _read(self, top: int, bottom: int) -> np.ndarray:
        page = self._page
        if page.is_memmappable:
            rows = page.asarray(out="memmap").reshape(*self.size, page.samplesperpixel)
            return self._plain(np.array(rows[top:bottom]))
        band = np.zeros((bottom - top, self.size[1], page.samplesperpixel), dtype=page.dtype)
        across = -(-self.size[1] // self._segment_width)
        for row in range(top // self._segment_height, -(-bottom // self._segment_height)):
            for column in range(across):
                self._copy(band, top, row, column, row * across + column)
        return self._plain(band)

    def _plain(self, rows: np.ndarray) -> np.ndarray:
        return rows if self._is_label_map else to_plain_values(rows)

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


def open_rows(source: PictureSource, max_pixels: int | None = None, num_channels: int = 3) -> PictureRows:
    """
    Open a picture to read it in bands.

    Args:
        source (`PictureSource`):
            The picture. TIFF and `.npy` files and arrays are read band by band. Others, such as JPEG, have to be
            decoded as a whole first.
        max_pixels (`int`, *optional*):
            Number of pixels that it may have; by default any.
        num_channels (`int`, *optional*, defaults to 3):
            Channels that the model takes; it tells in arrays which axis they are.

    Raises:
        UnreadablePictureError: If it is no picture, broken, or has too many pixels.
    """
    limit = max_pixels or 2**62
    suffix = Path(source).suffix.lower() if is_path(source) else ""
    if suffix in TIFF_SUFFIXES:
        rows = _open_file(TiffRows, source, num_channels)
    elif suffix == ".npy":
        rows = _open_file(NpyRows, source, num_channels)
    elif isinstance(source, np.ndarray | torch.Tensor):
        rows = ArrayRows(to_rows(source, num_channels), describe_source(source))
    else:
        rows = _decode_whole(source, limit, num_channels)
    if not math.prod(rows.size):
        raise UnreadablePictureError(f"{describe_source(source)} has no pixels: pass a picture with some.")
    if math.prod(rows.size) > limit:
        raise UnreadablePictureError(
            f"{describe_source(source)} has {math.prod(rows.size):,} pixels, more than max_pixels={limit:,}: pass a "
            "larger max_pixels, or leave it out."
        )
    return rows


def _decode_whole(source: PictureSource, max_pixels: int, num_channels: int) -> ArrayRows:
    name = describe_source(source)
    try:
        return ArrayRows(pil_to_array(open_picture(source, max_pixels, num_channels).pixels, True), name)
    except NotPixelsError as error:
        raise UnreadablePictureError(f"{name} cannot be used: {error}") from error


def _sample_floats(rows: np.ndarray) -> np.ndarray | None:
    """Of a picture in floats, pixels all over it that tell the range of its values."""
    if rows.dtype.kind != "f":
        return None
    step = max(math.isqrt(rows.shape[0] * rows.shape[1] // _PIXELS_SAMPLED), 1)
    return np.array(rows[::step, ::step])


def _open_file(kind: type[PictureRows], path: str | os.PathLike, *arguments: Any) -> PictureRows:
    try:
        check_is_file(path)
        return kind(path, *arguments)
    except (UnreadablePictureError, ImportError):
        raise
    except Exception as error:  # what a broken file leads to depends on where it is broken
        raise UnreadablePictureError(
            f"{one_line(path)} cannot be read as a picture: {why_unreadable(error)}"
        ) from error


def read_reduced(rows: PictureRows, step: int) -> np.ndarray:
    """Every so many pixels of a picture, down and across, `(height / step, width / step, channels)`."""
    height = rows.size[0]
    band = max(_ROWS_AT_ONCE // step, 1) * step
    return np.concatenate([rows.read(top, min(top + band, height))[::step, ::step] for top in range(0, height, band)])
