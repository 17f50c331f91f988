# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What can be said of an export before the model is loaded, and before PyTorch is."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data.layouts import list_images
from ..engines.export_settings import ExportSettings, is_export
from ..pretrained.locating import locate_model


def locate_source(name_or_folder: str | os.PathLike) -> str:
    """Where the model to export is, see [`locate_model`]; an export is refused."""
    location = locate_model(name_or_folder)
    if is_export(location):
        raise ValueError(f"{name_or_folder} is an export already: give the model that it was made from.")
    return location


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else than an export that may be replaced."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not is_export(output):
        raise ValueError(f"{output} exists and is no earlier export: choose another folder.")
    if not overwrite:
        raise ValueError(f"{output} holds an earlier export: choose another folder, or overwrite it (--overwrite).")


def find_photos(
    calibration: str | os.PathLike | Sequence[Any] | None, limit: int, settings: ExportSettings
) -> list[Any]:
    """Photos to calibrate by and to compare on, as [`read_image`] accepts them, evenly spread."""
    if limit < 1:
        raise ValueError(f"max_calibration={limit}: use at least one photo.")
    if isinstance(calibration, str | os.PathLike):
        folder = Path(calibration)
        if not folder.is_dir():
            raise ValueError(f"calibration={str(folder)!r} is no folder of photos.")
        calibration = list_images(folder)
    if calibration is None or len(calibration) == 0:
        if settings.precision == "int8":
            raise ValueError("precision='int8' needs calibration: some dozens of photos such as the model will see.")
        return []
    step = max(len(calibration) / limit, 1)
    return [calibration[int(index * step)] for index in range(min(len(calibration), limit))]
