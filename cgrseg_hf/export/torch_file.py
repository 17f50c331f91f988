# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Write a program of torch.export."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from ..engines.export_settings import ExportSettings
from .parts import Parts, Whole


def write_torch(
    parts: Parts, settings: ExportSettings, path: Path, calibration: Iterable[np.ndarray] | None = None
) -> None:
    """
    Export all parts as one program.

    Args:
        parts ([`Parts`]): What to write.
        settings ([`ExportSettings`]): How.
        path (`Path`): Where.
        calibration (`Iterable[np.ndarray]`, *optional*): Not used.
    """
    example = parts.examples(settings.size)[settings.input_name]
    any_length = torch.export.Dim.DYNAMIC
    axes = (0, 1, 2) if settings.include_preprocessing else (0, 2, 3)
    shapes = None if settings.size else (dict.fromkeys(axes, any_length),)
    program = torch.export.export(Whole(parts).eval(), (example,), dynamic_shapes=shapes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="No complete tensor found")  # weights that are views of others
        torch.export.save(program, path)
