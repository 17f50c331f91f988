# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A checkpoint file of the authors' code to a model folder, and back."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ..model.image_processing_cgrseg import CGRSegImageProcessor
from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
from ..pretrained.loading import load_model
from .official import from_official, to_official


def checkpoint_to_folder(
    checkpoint: str | Path, folder: Path, id2label: Mapping[int, str] | None = None, use_ema: bool = False
) -> CGRSegForSemanticSegmentation:
    """
    Convert a checkpoint file to a model folder, with an image processor.

    Args:
        checkpoint (`str` or `Path`): As for [`from_official`].
        folder (`Path`): Folder to write.
        id2label (`Mapping[int, str]`, *optional*): Names of the classes, by default those of the checkpoint.
        use_ema (`bool`): As for [`from_official`].

    Returns:
        `CGRSegForSemanticSegmentation`: the model.

    Raises:
        ValueError: If the checkpoint is not one of CGRSeg, or has another number of classes.
    """
    model = from_official(checkpoint, use_ema=use_ema)
    if id2label is not None:
        if len(id2label) != model.config.num_labels:
            raise ValueError(
                f"{checkpoint} has {model.config.num_labels} classes, but {len(id2label)} names of classes are given."
            )
        model.config.id2label = dict(id2label)
        model.config.label2id = {name: class_id for class_id, name in id2label.items()}
    model.save_pretrained(folder)
    CGRSegImageProcessor(num_labels=model.config.num_labels).save_pretrained(folder)
    return model


def folder_to_checkpoint(model_location: str, checkpoint: Path) -> int:
    """
    Convert a model folder, or a model of the Hub, to a checkpoint file.

    Returns:
        `int`: number of the tensors that were written.

    Raises:
        ValueError: If the authors' code has no such model.
    """
    model = load_model(model_location, dtype="auto")
    if not isinstance(model, CGRSegForSemanticSegmentation):
        raise ValueError(f"{model_location} is a {type(model).__name__}: the authors' code knows only CGRSeg.")
    state_dict = to_official(model)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    names = list(model.config.id2label.values())
    torch.save({"meta": {"CLASSES": names}, "state_dict": state_dict}, checkpoint)
    return len(state_dict)
