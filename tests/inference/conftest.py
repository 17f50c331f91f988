# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A tiny model that tells pictures apart, and photos."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.engines.torch_engine import TorchEngine
from cgrseg_hf.inference import Segmenter

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos" / "images"


@pytest.fixture(scope="session")
def make_segmenter(tiny_config) -> Callable[..., Segmenter]:
    """Make a segmenter whose random model answers with several classes."""
    models = {}

    def make(num_labels: int = 5, max_pixels: int | None = None, **settings) -> Segmenter:
        if num_labels not in models:
            torch.manual_seed(0)
            models[num_labels] = CGRSegForSemanticSegmentation(
                tiny_config(num_labels, semantic_loss_ignore_index=-100)
            ).eval()
            # Far apart, so that no rounding error decides between classes.
            torch.nn.init.normal_(models[num_labels].head.classifier.weight, std=3.0)
        settings = {"size": {"shortest_edge": 96, "longest_edge": 400}, **settings}
        engine = TorchEngine(models[num_labels], "cpu", torch.float32)
        return Segmenter(engine, CGRSegImageProcessor(**settings), max_pixels=max_pixels)

    return make


@pytest.fixture(scope="session")
def segmenter(make_segmenter) -> Segmenter:
    return make_segmenter()


@pytest.fixture
def make_photo() -> Callable[..., Image.Image]:
    """Make a picture with soft colours, other ones for each seed."""

    def make(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    return make
