# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Tiny models in folders."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Callable[..., CGRSegConfig], tmp_path_factory) -> Path:
    """A folder with a CGRSeg."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    CGRSegForSemanticSegmentation(tiny_config()).save_pretrained(folder)
    CGRSegImageProcessor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_segformer(tmp_path_factory) -> Path:
    """A folder with a SegFormer."""
    folder = tmp_path_factory.mktemp("models") / "other"
    config = SegformerConfig(depths=[1] * 4, hidden_sizes=[8, 16, 16, 16], decoder_hidden_size=8, num_labels=5)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor().save_pretrained(folder)
    return folder
