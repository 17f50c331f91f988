# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A small data set and a model for it."""

from pathlib import Path

import pytest
import torch
from helpers.noisy_data import NAMES, write_noisy_data

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.data import SegmentationData, load_data


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return write_noisy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def data(folder) -> SegmentationData:
    return load_data(folder, "validation")


@pytest.fixture(scope="session")
def model(tiny_config) -> CGRSegForSemanticSegmentation:
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config(num_labels=5, id2label=dict(enumerate(NAMES)))).eval()
    torch.nn.init.normal_(model.head.classifier.weight)  # so that it predicts several classes
    return model


@pytest.fixture(scope="session")
def image_processor() -> CGRSegImageProcessor:
    return CGRSegImageProcessor(size={"shortest_edge": 48, "longest_edge": 160})
