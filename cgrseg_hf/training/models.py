# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The model, its image processor and the class weights that a training configuration asks for."""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import datasets
import numpy as np
import torch
from tqdm import tqdm
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
# On so many label maps the shares of the classes are counted.
_MAPS_TO_COUNT = 2000


def make_model(
    config: TrainingConfig, id2label: Mapping[int, str], ignore_index: int, say: Callable[[str], None] = print
) -> PreTrainedModel:
    """
    The model that `config.model` names, with a classifier for the classes of `id2label`.

    A preset starts from random weights, with `config.backbone_weights` in its backbone. A folder or Hub id starts
    from its weights; a folder with nothing but a configuration, from random ones.
    """
    settings = dict(config.model_settings)
    if config.model in PRESETS:
        settings = {
            "loss_normalization": config.loss_normalization,
            "semantic_loss_ignore_index": ignore_index,
            **settings,
        }
        model = CGRSegForSemanticSegmentation(
            CGRSegConfig.from_preset(config.model, id2label=dict(id2label), **settings)
        )
        if config.backbone_weights is None:
            say(
                "No backbone_weights (--backbone-weights): training starts from random weights. The paper's figures "
                "rest on a backbone trained on ImageNet; without it expect a mean IoU many points lower, the more so "
                "the smaller the data."
            )
    else:
        settings["id2label"] = dict(id2label)
        settings["label2id"] = {name: class_id for class_id, name in id2label.items()}
        source = _locate(config.model)
        model_config = AutoConfig.from_pretrained(source)
        if unknown := [name for name in config.model_settings if not hasattr(model_config, name)]:
            raise ValueError(f"model_settings: the configuration of {config.model} has no {', '.join(unknown)}.")
        if Path(source).is_dir() and not any(any(Path(source).glob(pattern)) for pattern in _WEIGHT_FILES):
            model_config = AutoConfig.from_pretrained(source, **settings)
            model = AutoModelForSemanticSegmentation.from_config(model_config)
            say(f"{config.model} holds a configuration without weights: training starts from random ones.")
        else:
            model = load_model(source, ignore_mismatched_sizes=True, dtype=torch.float32, **settings)
    if config.backbone_weights is not None:
        say(f"Backbone: {load_imagenet_backbone(model, config.backbone_weights)}.")
    return model


def make_image_processor(config: TrainingConfig, data: SegmentationData) -> BaseImageProcessor:
    """
    The image processor with which the trained model is evaluated and saved: that of `config.model` if it has one.

    It takes label maps that hold train ids, as the model was trained on.
    """
    source = _locate(config.model)
    has_none = Path(source).is_dir() and not (Path(source) / "preprocessor_config.json").exists()
    if config.model in PRESETS or has_none:
        return CGRSegImageProcessor(
            size={"shortest_edge": min(config.resize_to), "longest_edge": max(config.resize_to)},
            num_labels=data.num_labels,
            ignore_index=data.ignore_index,
        )
    image_processor = AutoImageProcessor.from_pretrained(source)
    for name, value in {
        "num_labels": data.num_labels,
        "ignore_index": data.ignore_index,
        "do_reduce_labels": False,
    }.items():
        if hasattr(image_processor, name):
            setattr(image_processor, name, value)
    return image_processor


def pixel_statistics(image_processor: BaseImageProcessor) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, for values from 0 to 1, by which an image processor normalises."""
    if not getattr(image_processor, "do_normalize", True):
        return [0.0] * 3, [1.0] * 3
    return list(image_processor.image_mean), list(image_processor.image_std)


def _locate(model: str) -> str:
    """
    Folder or Hub id of a model; "shipped" is the one that comes with the package. A preset is left as it is.

    Raises:
        ValueError: If it can be neither.
    """
    return locate_model(model, PRESETS)


def find_class_weights(data: SegmentationData, power: float) -> torch.Tensor | None:
    """
    How much a pixel of each class counts: its share of the labelled pixels to a negative power.

    Args:
        data ([`SegmentationData`]): Whose label maps are counted, 2,000 at most: a stream's first, or a sample.
        power (`float`): 0 for no weights, 0.5 for a root, 1 for classes that weigh the same as a whole.

    Returns:
        `torch.Tensor` of shape `(num_labels,)`, float32, whose mean over the labelled pixels is 1; classes that do not
        occur weigh as much as the heaviest. None for power 0.
    """
    if power == 0:
        return None
    rows = data.rows
    if isinstance(rows, datasets.Dataset) and len(rows) > _MAPS_TO_COUNT:
        rows = rows.shuffle(seed=0).select(range(_MAPS_TO_COUNT))
    pixels = np.zeros(data.num_labels, dtype=np.int64)
    for row in tqdm(itertools.islice(rows, _MAPS_TO_COUNT), "Counting the classes' pixels", unit="map", leave=False):
        label_map = data.read_label_map(row)
        pixels += np.bincount(label_map[label_map != data.ignore_index], minlength=data.num_labels)
    if not pixels.any():
        raise ValueError(f"No pixel is labelled in {data.description}.")
    present = pixels > 0
    shares = pixels[present] / pixels.sum()
    weights = np.ones(data.num_labels)
    weights[present] = shares**-power / (shares ** (1 - power)).sum()
    weights[~present] = weights[present].max()
    return torch.from_numpy(weights).float()
