# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""TIFF files in parts, by rasterio: their pixels, and where on the globe they lie."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..model.image_formats_cgrseg import TIFF_SUFFIXES
from ..model.image_reading_cgrseg import is_path
from ..utils.optional import find_missing_packages, import_optional

# Bytes of unpacked parts that GDAL keeps; its default grows with the machine.
_CACHE_BYTES = 2**26


def import_rasterio() -> Any:
    """Import rasterio, or raise an ImportError that names the extra."""
    return import_optional("rasterio", "large", "TIFF files of any size")


@contextmanager
def open_tiff(path: str | os.PathLike, mode: str = "r", **settings: Any) -> Iterator[Any]:
    """Open a TIFF file as a dataset of rasterio, without its warning that most images have no place on the globe."""
    rasterio = import_rasterio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES), rasterio.open(path, mode, driver="GTiff", **settings) as file:
            yield file


def make_window(top: int, bottom: int, width: int) -> Any:
    """Make rasterio's window of the rows from `top` to before `bottom`."""
    return import_rasterio().windows.Window(0, top, width, bottom - top)


def read_tags(path: str | os.PathLike) -> dict[int, Any]:
    """Read the tags of a TIFF file's first page, of which rasterio hides some."""
    with Path(path).open("rb") as file:
        header = file.read(8)
        if header[2:3] == b"\x2b" or header[3:4] == b"\x2b":  # BigTIFF
            header += file.read(8)
        tags = ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
        return dict(tags)


def find_georeference(source: Any, num_labels: int) -> dict[str, Any]:
    """
    Find where on the globe the label map of an image lies.

    Args:
        source (`Any`): The image; only TIFF files have a place, and rasterio must be installed.
        num_labels (`int`): Number of classes.

    Returns:
        `dict[str, Any]`: `crs` and `transform` for rasterio, and `nodata` unless it is the id of a class; empty for
        images without a place, and for files that rasterio cannot open.
    """
    if not is_path(source) or Path(source).suffix.lower() not in TIFF_SUFFIXES or find_missing_packages(["rasterio"]):
        return {}
    try:
        with open_tiff(source) as file:
            crs, transform, nodata = file.crs, file.transform, file.nodata
    except OSError:
        return {}
    if crs is None and transform.is_identity:
        return {}
    is_free = nodata is not None and num_labels <= nodata <= (255 if num_labels <= 256 else 65535)
    return {"crs": crs, "transform": transform, **({"nodata": nodata} if is_free else {})}


def read_label_map(path: str | os.PathLike, step: int = 1) -> np.ndarray:
    """Read every `step`-th pixel of a label map: (height / step, width / step)."""
    with open_tiff(path) as file:
        rows = max(512 // step, 1) * step
        bands = (
            file.read(1, window=make_window(top, min(top + rows, file.height), file.width))[::step, ::step]
            for top in range(0, file.height, rows)
        )
        return np.concatenate(list(bands))
