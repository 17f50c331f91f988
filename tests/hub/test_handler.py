# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The files for Inference Endpoints; that the handler runs without this package is tested with `cgrseg push`."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.hub import handler
from cgrseg_hf.model import image_formats_cgrseg


def encode(image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format="PNG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def endpoint(decided_folder: Path) -> handler.EndpointHandler:
    return handler.EndpointHandler(str(decided_folder))


def test_answers_are_the_pipelines(endpoint: handler.EndpointHandler):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    text = base64.b64encode(encode(image)).decode()
    segments = endpoint.pipeline(image)
    assert len(segments) > 1
    for inputs in (image, encode(image), text, f"data:image/png;base64,{text}"):
        answer = endpoint({"inputs": inputs, "parameters": {"subtask": "semantic", "threshold": 0.5}})
        for one, expected in zip(json.loads(json.dumps(answer)), segments, strict=True):
            assert one["label"] == expected["label"] and one.keys() == {"label", "score", "mask"}
            with Image.open(io.BytesIO(base64.b64decode(one["mask"]))) as mask:
                np.testing.assert_array_equal(np.asarray(mask), np.asarray(expected["mask"]))


def test_what_is_refused(endpoint: handler.EndpointHandler, postscript: Path, photos: Path):
    content = encode(Image.new("RGB", (4, 3)))
    for request, message in (
        ({}, "no 'inputs'"),
        ({"inputs": str(next(photos.glob("*.jpg")))}, "not base64"),
        ({"inputs": "http://127.0.0.1/picture.png"}, "not base64"),
        ({"inputs": 3}, "is a int"),
        ({"inputs": content, "parameters": {"treshold": 0.5}}, "treshold"),
        # Each of these has an error of its own.
        ({"inputs": b"words"}, "cannot be read"),
        ({"inputs": content[: len(content) // 2]}, "cannot be read"),
        ({"inputs": b"P6 " + b"9" * 50 + b" 1 255\n\0\0\0"}, "cannot be read"),
        ({"inputs": encode(Image.new("RGB", (4, 3)), icc_profile=b"\0" * 3_000_000)}, "cannot be read"),
        ({"inputs": postscript.read_bytes()}, "cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            endpoint(request)


def test_what_the_package_says_too():
    assert tuple(image_formats_cgrseg.FORMATS) == handler.FORMATS
    requirement = (Path(handler.__file__).parent / "templates" / "requirements.txt").read_text().strip()
    assert requirement.startswith("transformers>=")
    assert f'    "{requirement}",\n' in (Path(__file__).parents[2] / "pyproject.toml").read_text()
