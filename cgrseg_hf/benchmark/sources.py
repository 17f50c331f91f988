# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The models that are measured: by folder or Hub id, by configuration without weights, or exported."""

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from transformers import (
    AutoImageProcessor,
    PreTrainedModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)
from transformers.image_processing_utils import BaseImageProcessor

from ..engines.export_settings import is_export
from ..model.configuration_cgrseg import PRESETS, CGRSegConfig
from ..model.image_processing_cgrseg import CGRSegImageProcessor
from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
from ..pretrained.loading import load_model
from ..pretrained.locating import SHIPPED, locate_model
from .plain import PlainOnnxFiles
from .settings import CONFIGURATION_NAMES, SEGFORMER_NAMES

# Sizes of SegFormer (arXiv 2105.15203): depths, hidden sizes, and the decoder's hidden size.
_SEGFORMERS = dict(
    zip(
        SEGFORMER_NAMES,
        (
            ((2, 2, 2, 2), (32, 64, 160, 256), 256),
            ((2, 2, 2, 2), (64, 128, 320, 512), 256),
            ((3, 4, 6, 3), (64, 128, 320, 512), 768),
        ),
        strict=True,
    )
)
_NUM_LABELS = 150


@dataclass
class Source:
    """
    A model to measure.

    Args:
        name (`str`): What it is called in tables.
        image_processor (`BaseImageProcessor`): Its image processor.
        model (`PreTrainedModel`, *optional*): The model, in float32 and evaluation mode; None for an exported folder.
        export (`Path`, *optional*): The folder that `cgrseg export` wrote.
        configuration (`str`, *optional*): Name of the configuration that it was made from, with random weights.
    """

    name: str
    image_processor: BaseImageProcessor
    model: PreTrainedModel | None = None
    export: Path | None = None
    configuration: str | None = None

    @cached_property
    def onnx_files(self) -> PlainOnnxFiles:
        """The model's plain exports, which all contenders share."""
        return PlainOnnxFiles(self.model)

    def image_processor_for(self, size: tuple[int, int]) -> BaseImageProcessor:
        """Its image processor, bringing photos to this height and width."""
        image_processor = copy.deepcopy(self.image_processor)
        image_processor.size = {"height": size[0], "width": size[1]}
        return image_processor


def load_source(name: str, num_labels: int | None = None) -> Source:
    """
    Find a model.

    Args:
        name (`str`):
            A preset of CGRSeg (`xs`, `t`, `b`, `l`), `segformer-b0` to `segformer-b2`, both with random weights;
            `shipped`; a folder that `cgrseg export` wrote; or folder or Hub id of a semantic segmentation model.
        num_labels (`int`, *optional*, defaults to 150):
            Classes of a model with random weights.

    Returns:
        [`Source`]: the model.

    Raises:
        ValueError, OSError: If there is none of that name.
    """
    num_labels = num_labels or _NUM_LABELS
    if name in PRESETS:
        # The same weights every time, so that the exports which engines keep of them are found again.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(name, num_labels=num_labels))
        title = f"CGRSeg-{name.upper()}"
        return Source(title, CGRSegImageProcessor(), model.eval(), configuration=name)
    if name in _SEGFORMERS:
        model = SegformerForSemanticSegmentation(_segformer_config(name, num_labels))
        title = name.replace("segformer-b", "SegFormer-B")
        return Source(title, SegformerImageProcessor(), model.eval(), configuration=name)
    location = locate_model(name, CONFIGURATION_NAMES)
    folder = Path(location)
    image_processor = AutoImageProcessor.from_pretrained(location)
    if is_export(folder):
        return Source(folder.resolve().name, image_processor, export=folder)
    model = load_model(location, dtype=torch.float32)
    title = folder.resolve().name if name == SHIPPED or Path(name).expanduser().is_dir() else name
    return Source(title, image_processor, model.eval())


def _segformer_config(name: str, num_labels: int) -> SegformerConfig:
    depths, hidden_sizes, decoder_hidden_size = _SEGFORMERS[name]
    return SegformerConfig(
        depths=list(depths),
        hidden_sizes=list(hidden_sizes),
        decoder_hidden_size=decoder_hidden_size,
        num_labels=num_labels,
    )
