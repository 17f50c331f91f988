# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Small images with their annotations: written to files, and compared as data."""

from pathlib import Path

import numpy as np
from PIL import Image

from cgrseg_hf.data import SegmentationData


def write_image(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", **settings) -> None:
    """Write a photo of noise, by default of width 6 and height 4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    Image.fromarray(values.squeeze(-1) if channels == 1 else values, mode).save(path, **settings)


def write_annotation(path: Path, ids=(0, 1), size: tuple[int, int] = (6, 4), dtype=np.uint8) -> None:
    """Write an annotation whose pixels hold the ids in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(ids, dtype=dtype), size[::-1])).save(path)


def write_pair(image: Path, annotation: Path, ids=(0, 1), size: tuple[int, int] = (6, 4), dtype=np.uint8) -> None:
    """Write an image and its annotation."""
    write_image(image, size)
    write_annotation(annotation, ids, size, dtype)


def names_of(data: SegmentationData) -> list[str]:
    """Return the names of all pairs."""
    return [row["name"] for row in data.rows]


def ids_of(data: SegmentationData, index: int = 0) -> list[int]:
    """Return the train ids that a pair holds."""
    return np.unique(data.read(list(data.rows)[index]).label_map).tolist()


def assert_same_pairs(data: SegmentationData, expected: SegmentationData) -> None:
    """Check that names, pixels and train ids are the same."""
    examples, others = ([each.read(row) for row in each.rows] for each in (data, expected))
    assert [example.name for example in examples] == [other.name for other in others] != []
    for example, other in zip(examples, others):
        assert example.image.tobytes() == other.image.tobytes()
        assert np.array_equal(example.label_map, other.label_map)
