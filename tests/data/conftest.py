# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Small and real data sets for the tests of data."""

from pathlib import Path

import datasets
import pytest
from helpers.pairs import write_pair


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> None:
    """Keep what tests load out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def two_class_folder(tmp_path: Path) -> Path:
    """Three pairs to train on and one to validate on, of the classes ground (0) and sky (1)."""
    folder = tmp_path / "two_classes"
    for split, names in {"train": "abc", "val": "d"}.items():
        for name in names:
            write_pair(folder / split / "images" / f"{name}.jpg", folder / split / "annotations" / f"{name}.png")
    (folder / "id2label.json").write_text('{"0": "ground", "1": "sky"}')
    return folder


@pytest.fixture
def images(two_class_folder: Path) -> Path:
    """The images to train on in `two_class_folder`."""
    return two_class_folder / "train" / "images"


@pytest.fixture
def annotations(two_class_folder: Path) -> Path:
    """Their annotations."""
    return two_class_folder / "train" / "annotations"


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """Samples of the real data sets, where they lie beside the checkout."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real samples are not here")
    return folder
