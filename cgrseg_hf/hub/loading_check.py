# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Load a folder as somebody without this package would, and segment a picture with it.

`check_loading` runs this program in a separate process, with the folder and the photos of its card as arguments. It
prints a line of JSON with the model's class and the labels that were found, and writes the photos' label maps to the
current folder: 0.npy, 1.npy, ...
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (150, 101)  # width, height: not multiples of the network's strides


def make_picture() -> Image.Image:
    """Make a picture with large areas, an edge and noise, always the same."""
    width, height = SIZE
    down, across = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 64, (height, width, 3))
    areas = np.stack([across * 191 // width, down * 191 // height, np.where(across < width // 2, 40, 180)], axis=-1)
    return Image.fromarray((areas + noise).astype(np.uint8))


def load_handler(folder: Path) -> Any:
    """Make the folder's handler as an endpoint makes it."""
    specification = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.EndpointHandler(str(folder))


def segment(pipeline: Any, picture: Image.Image) -> tuple[list[str], np.ndarray]:
    """Find the labels in a picture, and the class of each pixel, `(height, width)`, int32."""
    segments = pipeline(picture)
    area = sum(np.count_nonzero(one["mask"]) for one in segments)
    if any(one["mask"].size != picture.size for one in segments) or area != picture.width * picture.height:
        raise ValueError("the masks do not cover the picture, each pixel once")
    class_ids = {name: class_id for class_id, name in pipeline.model.config.id2label.items()}
    label_map = np.zeros(picture.size[::-1], dtype=np.int32)
    for one in segments:
        label_map[np.asarray(one["mask"]) > 0] = class_ids[one["label"]]
    return [one["label"] for one in segments], label_map


def main() -> None:
    """Load, segment, and check the answers."""
    sys.modules["cgrseg_hf"] = None  # as if it were not installed
    folder, picture = Path(sys.argv[1]), make_picture()
    handler = load_handler(folder)
    model, (labels, _) = handler.pipeline.model, segment(handler.pipeline, picture)
    if [one["label"] for one in handler({"inputs": picture})] != labels:
        raise ValueError("handler.py finds other classes than the pipeline")
    for number, path in enumerate(sys.argv[2:]):
        with Image.open(path) as photo:
            np.save(f"{number}.npy", segment(handler.pipeline, photo.convert("RGB"))[1])
    print(json.dumps({"class": f"{type(model).__module__}.{type(model).__qualname__}", "labels": labels}))


if __name__ == "__main__":
    main()
