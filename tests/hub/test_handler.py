# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The files for Inference Endpoints; the handler's answers are tested with `cgrseg push`."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.hub import handler
from cgrseg_hf.model import image_reading_cgrseg


def test_pictures_that_cannot_be_read(postscript: Path):
    file = io.BytesIO()
    Image.new("RGB", (4, 3)).save(file, format="PNG", icc_profile=b"\0" * 3_000_000)
    too_large, size = file.getvalue(), b"P6 " + b"9" * 50 + b" 1 255\n\0\0\0"
    for content in (size, too_large, b"no picture", postscript.read_bytes()):  # each has an error of its own
        with pytest.raises(ValueError, match="'inputs' cannot be read"):
            handler.read_picture(content)
    file = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, format="PNG")
    assert np.asarray(handler.read_picture(file.getvalue())).shape == (3, 4, 3)
    assert tuple(image_reading_cgrseg.FORMATS) == handler.FORMATS


def test_endpoints_get_the_transformers_that_the_package_needs():
    requirement = (Path(handler.__file__).parent / "templates" / "requirements.txt").read_text().strip()
    assert requirement.startswith("transformers>=")
    assert f'    "{requirement}",\n' in (Path(__file__).parents[2] / "pyproject.toml").read_text()
