# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Serves the model of this folder on Hugging Face Inference Endpoints.

This file travels to the Hub with the weights, where it needs only transformers and Pillow. An endpoint imports it,
makes one `EndpointHandler` with the folder's path, and calls it with each request.
"""

import base64
import binascii
import io
from typing import Any

from PIL import Image
from transformers import pipeline

# As in image_reading_cgrseg.py. Pillow knows others, and hands one of them, PostScript, to a program that runs it.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")

# Of transformers' image segmentation pipeline.
PARAMETERS = ("subtask", "threshold", "mask_threshold", "overlap_mask_area_threshold")


class EndpointHandler:
    """
    Answer requests with the masks of the classes in a picture.

    Args:
        path (`str`): Folder of the model.
    """

    def __init__(self, path: str = ""):
        self.pipeline = pipeline("image-segmentation", model=path, trust_remote_code=True)

    def __call__(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        """
        Segment a picture.

        Args:
            data (`dict[str, Any]`):
                `inputs` is the picture: a `PIL.Image.Image`, the bytes of a file, or these in base64, also as a data
                URL. `parameters`, if present, are options of transformers' image segmentation pipeline.

        Returns:
            `list[dict[str, Any]]`: for each class in the picture its `label`; its `score`, `None` in semantic
            segmentation; and its `mask`, a PNG of the picture's size in base64, 255 inside the class and 0 elsewhere.

        Raises:
            ValueError: If there is no picture, it cannot be read, or a parameter is unknown.
        """
        if "inputs" not in data:
            raise ValueError("The request has no 'inputs': send the picture in it, as bytes or in base64.")
        parameters = data.get("parameters") or {}
        if unknown := sorted(set(parameters) - set(PARAMETERS)):
            raise ValueError(f"Unknown parameters {', '.join(unknown)}: there are {', '.join(PARAMETERS)}.")
        segments = self.pipeline(read_picture(data["inputs"]), **parameters)
        return [{**segment, "mask": encode_png(segment["mask"])} for segment in segments]


def read_picture(inputs: Any) -> Image.Image:
    """
    Read the picture of a request. Text must be base64: no address is fetched and no file is opened for it.

    Raises:
        ValueError: If it is not a picture, or cannot be read.
    """
    if isinstance(inputs, Image.Image):
        return inputs
    if isinstance(inputs, str):
        try:
            inputs = base64.b64decode("".join(inputs.rpartition("base64,")[2].split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"The picture in 'inputs' is not base64: {error}.") from error
    if not isinstance(inputs, bytes | bytearray):
        raise ValueError(f"'inputs' is a {type(inputs).__name__}: send a picture as bytes or in base64.")
    try:
        Image.init()  # registers all formats that are installed
        picture = Image.open(io.BytesIO(inputs), formats=[name for name in FORMATS if name in Image.OPEN])
        picture.load()
    except Exception as error:  # each of Pillow's formats has its own errors for broken files
        raise ValueError(f"The picture in 'inputs' cannot be read: {error}.") from error
    return picture


def encode_png(mask: Image.Image) -> str:
    """Encode a mask as a PNG file in base64."""
    file = io.BytesIO()
    mask.save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
