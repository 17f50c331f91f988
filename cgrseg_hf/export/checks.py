# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Refuse an export that cannot work before PyTorch and the model are loaded."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.layouts import list_images
from ..engines.export_settings import ExportSettings, is_export
from ..pretrained.locating import locate_model

DEFAULT_MAX_CALIBRATION = 128


def locate_source(name_or_folder: str | os.PathLike) -> str:
    """Find the model to export, see [`locate_model`], and refuse an export."""
    location = locate_model(name_or_folder)
    if is_export(location):
        raise ValueError(f"{name_or_folder} is an export already: give the model that it was made from.")
    return location


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse a folder with anything but an export that may be replaced."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not is_export(output):
        raise ValueError(f"{output} exists and is not an earlier export: choose another folder.")
    if not overwrite:
        raise ValueError(f"{output} holds an earlier export: choose another folder, or overwrite it (--overwrite).")


def find_photos(
    calibration: str | os.PathLike | Sequence[Any] | None, limit: int, settings: ExportSettings
) -> list[Any]:
    """List photos to calibrate with and to compare on, evenly spread, as [`read_image`] accepts them."""
    if limit < 1:
        raise ValueError(f"max_calibration={limit}: use at least one photo.")
    if isinstance(calibration, str | os.PathLike):
        folder = Path(calibration)
        if not folder.is_dir():
            raise ValueError(f"calibration={str(folder)!r} is not a folder of photos.")
        calibration = list_images(folder)
    if calibration is None or len(calibration) == 0:
        if settings.precision == "int8":
            raise ValueError("precision='int8' needs calibration: some dozens of photos such as the model will see.")
        return []
    step = max(len(calibration) / limit, 1)
    return [calibration[int(index * step)] for index in range(min(len(calibration), limit))]
