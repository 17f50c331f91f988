# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A small data set of noise."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ["road", "=SUM(A1)", "sky", "-tree", "never"]
SIZES = [(40, 60), (37, 51), (64, 32), (33, 90), (48, 48), (1, 7), (60, 41)]


def write_noisy_data(folder: Path) -> Path:
    """Write seven images of different sizes, with four of the five classes and some pixels ignored."""
    generator = np.random.default_rng(0)
    for kind in ("images", "annotations"):
        (folder / "val" / kind).mkdir(parents=True)
    for index, (height, width) in enumerate(SIZES):
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        labels = generator.integers(0, 4, (height, width), dtype=np.uint8)
        labels[generator.random((height, width)) < 0.1] = 255
        Image.fromarray(pixels).save(folder / "val" / "images" / f"{index}.png")
        Image.fromarray(labels).save(folder / "val" / "annotations" / f"{index}.png")
    (folder / "id2label.json").write_text(json.dumps(dict(enumerate(NAMES))))
    return folder
