# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps in files: indexed PNG and TIFF with the classes' colours, or NumPy arrays; large ones strip by strip."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

from ..model.image_formats_cgrseg import TIFF_SUFFIXES
from ..visualization.colors import Color
from .tiff_files import import_rasterio, make_window, open_tiff, read_label_map


def label_type(num_labels: int) -> type[np.uint8] | type[np.uint16]:
    """The type of label maps: uint8 for up to 256 classes, beyond that uint16."""
    return np.uint8 if num_labels <= 256 else np.uint16


def save_label_map(
    path: Path, label_map: np.ndarray, colors: Sequence[Color], georeference: Mapping[str, Any] | None = None
) -> None:
    """
    Write a label map by the suffix of its path.

    Args:
        path (`Path`):
            `.png` and `.tif` hold the ids with the classes' colours as palette, with more than 256 classes without;
            `.npy` holds the array.
        label_map (`numpy.ndarray` of shape `(height, width)`, uint8 or uint16):
            The classes.
        colors (`Sequence[tuple[int, int, int]]`):
            Colours of the classes by id.
        georeference (`Mapping[str, Any]`, *optional*):
            Place on the globe, for TIFF, see [`find_georeference`].

    Raises:
        ValueError: If the suffix is another.
    """
    if path.suffix.lower() == ".png":
        write_png(path, label_map, colors)
    else:
        write_strips(path, [label_map], label_map.shape, label_map.dtype, colors, georeference)


def write_png(file: Path | IO[bytes], label_map: np.ndarray, colors: Sequence[Color]) -> None:
    """Write a label map as an indexed PNG to a path or an open file, see [`save_label_map`]."""
    image = Image.fromarray(label_map)
    if label_map.dtype == np.uint8:
        image.putpalette([value for color in colors for value in color])
    image.save(file, format="PNG")


def write_strips(
    path: Path,
    strips: Iterable[np.ndarray],
    shape: tuple[int, int],
    dtype: np.dtype | type,
    colors: Sequence[Color],
    georeference: Mapping[str, Any] | None = None,
) -> None:
    """
    Write a label map that comes in strips of rows, from top to bottom, without holding more of it than they do.

    Args:
        path (`Path`): A file ending in `.npy`, or in `.tif` or `.tiff` for a TIFF of deflated tiles. It appears when
            all is written.
        strips (`Iterable[numpy.ndarray]`): Arrays `(rows, width)` that make up the whole.
        shape (`tuple[int, int]`): Height and width.
        dtype (`numpy.dtype`): uint8 or uint16.
        colors (`Sequence[tuple[int, int, int]]`): Colours of the classes by id, for TIFF.
        georeference (`Mapping[str, Any]`, *optional*): Place on the globe, for TIFF, see [`find_georeference`].

    Raises:
        ValueError: If the suffix is another.
    """
    check_strips_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    try:
        if path.suffix.lower() == ".npy":
            _write_npy(unfinished, strips, shape, dtype)
        else:
            _write_tiff(unfinished, strips, shape, dtype, colors, georeference or {})
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def check_strips_suffix(path: Path) -> None:
    """Refuse a file that `write_strips` cannot write."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        import_rasterio()
    elif path.suffix.lower() != ".npy":
        raise ValueError(f"{path} ends in none of .npy, .tif and .tiff.")


def open_label_map(path: Path) -> np.ndarray:
    """A written label map: a memory-mapped array of `.npy`, a read one of `.tif`."""
    if path.suffix.lower() == ".npy":
        return np.load(path, mmap_mode="r")
    return read_label_map(path)


def _write_npy(path: Path, strips: Iterable[np.ndarray], shape: tuple[int, int], dtype: np.dtype | type) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        )
        for strip in strips:
            file.write(np.ascontiguousarray(strip, dtype=dtype).data)


def _write_tiff(
    path: Path,
    strips: Iterable[np.ndarray],
    shape: tuple[int, int],
    dtype: np.dtype | type,
    colors: Sequence[Color],
    georeference: Mapping[str, Any],
) -> None:
    settings = {"height": shape[0], "width": shape[1], "count": 1, "dtype": np.dtype(dtype).name, **georeference}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "bigtiff": "if_safer"}
    with open_tiff(path, "w", **settings, **layout) as file:
        if np.dtype(dtype) == np.uint8:
            file.write_colormap(1, dict(enumerate(colors)))
        top = 0
        for strip in strips:
            file.write(strip, 1, window=make_window(top, top + len(strip), shape[1]))
            top += len(strip)
