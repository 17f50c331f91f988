# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A small data set and the definition of the metric, for the tests of evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.data import SegmentationData, load_data

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = ["road", "=SUM(A1)", "sky", "-tree", "never"]
SIZES = [(40, 60), (37, 51), (64, 32), (33, 90), (48, 48), (1, 7), (60, 41)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Seven pictures of different sizes, four of the five classes, some pixels ignored."""
    folder = tmp_path_factory.mktemp("data")
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


@pytest.fixture(scope="session")
def data(folder) -> SegmentationData:
    return load_data(folder, "validation")


@pytest.fixture(scope="session")
def model(tiny_config) -> CGRSegForSemanticSegmentation:
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config(num_labels=5, id2label=dict(enumerate(NAMES)))).eval()
    torch.nn.init.normal_(model.head.classifier.weight)  # so that it does not say the same everywhere
    return model


@pytest.fixture(scope="session")
def image_processor() -> CGRSegImageProcessor:
    return CGRSegImageProcessor(size={"shortest_edge": 48, "longest_edge": 160})


@pytest.fixture
def evaluates_folders(tmp_path, monkeypatch) -> str:
    """The folder of a metric for `evaluate.load`, whose copies and tables go where the test's files go."""
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "metrics"))
    return str(FIXTURES / "mean_iou")
