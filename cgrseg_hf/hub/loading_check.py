# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Loads a folder as somebody without this package would, and segments a picture with it.

A program, which `check_loading` runs in a process of its own. It prints a line of JSON: the model's class, and the
labels that were found.
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (150, 101)  # width, height, neither of them a multiple of the network's strides


def make_picture() -> Image.Image:
    """A picture with large areas, an edge and noise, always the same."""
    width, height = SIZE
    down, across = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3))
    areas = np.stack([across * 191 // width, down * 191 // height, np.where(across < width // 2, 40, 180)], axis=-1)
    return Image.fromarray((areas + noise).astype(np.uint8))


def load_handler(folder: Path) -> Any:
    """The folder's handler, made as an endpoint makes it."""
    specification = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def main() -> None:
    """Load, segment, and check what comes out."""
    sys.modules["cgrseg_hf"] = None  # as if it were not installed
    folder, picture = Path(sys.argv[1]), make_picture()
    handler = load_handler(folder)
    model, segments = handler.pipeline.model, handler.pipeline(picture)
    area = sum(np.count_nonzero(segment["mask"]) for segment in segments)
    if any(segment["mask"].size != picture.size for segment in segments) or area != picture.width * picture.height:
        raise ValueError("the masks do not cover the picture, each pixel once")
    labels = [segment["label"] for segment in segments]
    if [segment["label"] for segment in handler({"inputs": picture})] != labels:
        raise ValueError("handler.py finds other classes than the pipeline")
    print(json.dumps({"class": f"{type(model).__module__}.{type(model).__qualname__}", "labels": labels}))


if __name__ == "__main__":
    main()
