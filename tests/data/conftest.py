# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Small real files for the tests of data."""

from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> None:
    """Keep what tests load out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Write a photo of noise, width 6 and height 4, and return its path."""

    def write(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", **settings) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = len(Image.new(mode, (1, 1)).getbands())
        values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
        Image.fromarray(values.squeeze(-1) if channels == 1 else values, mode).save(path, **settings)
        return path

    return write


@pytest.fixture
def write_annotation() -> Callable[..., Path]:
    """Write an annotation whose pixels hold the ids in turn, by default 6 wide and 4 high, and return its path."""

    def write(path: Path, ids=(0, 1), size: tuple[int, int] = (6, 4), dtype=np.uint8) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.resize(np.array(ids, dtype=dtype), size[::-1])).save(path)
        return path

    return write


@pytest.fixture
def write_pair(write_image, write_annotation) -> Callable[..., None]:
    """Write an image and its annotation."""

    def write(image: Path, annotation: Path, ids=(0, 1), dtype=np.uint8) -> None:
        write_image(image)
        write_annotation(annotation, ids, dtype=dtype)

    return write


@pytest.fixture
def two_class_folder(tmp_path: Path, write_pair) -> Path:
    """Three pairs to train on and one to validate on, of the classes ground (0) and sky (1)."""
    folder = tmp_path / "two_classes"
    for split, names in {"train": "abc", "val": "d"}.items():
        for name in names:
            write_pair(folder / split / "images" / f"{name}.jpg", folder / split / "annotations" / f"{name}.png")
    (folder / "id2label.json").write_text('{"0": "ground", "1": "sky"}')
    return folder


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Samples of the real data sets, which lie beside the checkout where they could be had."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real samples are not here")
    return folder
