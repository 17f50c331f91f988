# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The model and its image processor, as a training configuration names them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from ..conversion import load_imagenet_backbone
from ..data import SegmentationData
from ..model.configuration_cgrseg import PRESETS, CGRSegConfig
from ..model.image_processing_cgrseg import CGRSegImageProcessor
from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
from ..pretrained.loading import load_model
from ..pretrained.locating import locate_model
from .config import TrainingConfig

_WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json")


def make_model(
    config: TrainingConfig, id2label: Mapping[int, str], ignore_index: int, say: Callable[[str], None] = print
) -> PreTrainedModel:
    """
    Make the model that `config.model` names, with a classifier for the classes of `id2label`.

    A preset starts from random weights, with `config.backbone_weights` in its backbone. A folder or Hub id starts
    from its weights; a folder that holds only a configuration, from random ones.
    """
    if config.model in PRESETS:
        model = _make_preset(config, id2label, ignore_index)
        if config.backbone_weights is None:
            say(
                "No backbone_weights (--backbone-weights): training starts from random weights. The paper's figures "
                "rest on a backbone trained on ImageNet; without it expect a mean IoU many points lower, the more so "
                "the smaller the data."
            )
    else:
        model = _load_or_make(config, id2label, say)
    if config.backbone_weights is not None:
        say(f"Backbone: {load_imagenet_backbone(model, config.backbone_weights)}.")
    return model


def _make_preset(
    config: TrainingConfig, id2label: Mapping[int, str], ignore_index: int
) -> CGRSegForSemanticSegmentation:
    settings = {
        "loss_normalization": config.loss_normalization,
        "semantic_loss_ignore_index": ignore_index,
        **config.model_settings,
    }
    return CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(config.model, id2label=dict(id2label), **settings))


def _load_or_make(config: TrainingConfig, id2label: Mapping[int, str], say: Callable[[str], None]) -> PreTrainedModel:
    """Load the model of a folder or Hub id; make it if the folder has no weights."""
    source = locate_model(config.model, PRESETS)
    model_config = AutoConfig.from_pretrained(source)
    if unknown := [name for name in config.model_settings if not hasattr(model_config, name)]:
        raise ValueError(f"model_settings: the configuration of {config.model} has no {', '.join(unknown)}.")
    settings = {
        **config.model_settings,
        "id2label": dict(id2label),
        "label2id": {name: class_id for class_id, name in id2label.items()},
    }
    if Path(source).is_dir() and not any(any(Path(source).glob(pattern)) for pattern in _WEIGHT_FILES):
        say(f"{config.model} holds a configuration without weights: training starts from random ones.")
        return AutoModelForSemanticSegmentation.from_config(AutoConfig.from_pretrained(source, **settings))
    return load_model(source, ignore_mismatched_sizes=True, dtype=torch.float32, **settings)


def make_image_processor(config: TrainingConfig, data: SegmentationData) -> BaseImageProcessor:
    """
    Make the image processor for evaluating and saving the trained model: that of `config.model` if it has one.

    It expects label maps of train ids, as the model was trained on.
    """
    source = locate_model(config.model, PRESETS)
    has_none = Path(source).is_dir() and not (Path(source) / "preprocessor_config.json").exists()
    if config.model in PRESETS or has_none:
        return CGRSegImageProcessor(
            size={"shortest_edge": min(config.resize_to), "longest_edge": max(config.resize_to)},
            num_labels=data.num_labels,
            ignore_index=data.ignore_index,
        )
    image_processor = AutoImageProcessor.from_pretrained(source)
    settings = {"num_labels": data.num_labels, "ignore_index": data.ignore_index, "do_reduce_labels": False}
    for name, value in settings.items():
        if hasattr(image_processor, name):
            setattr(image_processor, name, value)
    return image_processor
