# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What a run reads: the splits, augmented batches of the first, and how often its classes occur."""

import itertools

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.image_processing_utils import BaseImageProcessor

from ..data import SegmentationData, SplitNotFoundError, check_first_masks, load_data, read_class_names
from ..data.batches import make_training_loader
from ..data.transforms import training_transforms
from .config import TrainingConfig

# How many label maps are looked at to count the classes.
_MAPS_TO_COUNT = 2000


def load_splits(config: TrainingConfig, accelerator: Accelerator) -> tuple[SegmentationData, SegmentationData | None]:
    """
    Load the data to train and to evaluate on, and check the first label maps.

    Raises:
        ValueError: If the data cannot be used; the message says why.
    """
    train_data = _load_split(config, config.train_split, accelerator)
    accelerator.print(f"Raw ids → train ids: {train_data.label_mapping.describe()}")
    if config.validation_split is None:
        return train_data, None
    try:
        validation_data = _load_split(config, config.validation_split, accelerator)
    except SplitNotFoundError as error:
        raise ValueError(f"{error} To train without evaluating: --validation-split none.") from error
    if validation_data.split is None:
        accelerator.print("  Warning: the source has no splits, so the model is evaluated on what it is trained on.")
    return train_data, validation_data


def _load_split(config: TrainingConfig, split: str, accelerator: Accelerator) -> SegmentationData:
    data = load_data(
        config.data,
        split,
        config.dataset,
        image_column=config.image_column,
        annotation_column=config.annotation_column,
        streaming=config.streaming,
        label_ids=config.label_ids,
        reduce_labels=config.reduce_labels,
        id2label=None if config.class_names is None else read_class_names(config.class_names),
        ignore_index=config.ignore_index,
    )
    accelerator.print(f"{split}: {data.description}")
    if accelerator.is_main_process:
        for warning in check_first_masks(data):
            accelerator.print(f"  Warning: {warning}")
    return data


def divide_batch(config: TrainingConfig, num_processes: int) -> int:
    """
    Compute how many images each process reads at once.

    Raises:
        ValueError: If the batch cannot be divided evenly.
    """
    num_parts = num_processes * config.gradient_accumulation_steps
    if config.batch_size % num_parts:
        raise ValueError(
            f"batch_size={config.batch_size} cannot be divided among {num_processes} processes with "
            f"{config.gradient_accumulation_steps} parts each: make it a multiple of {num_parts}."
        )
    return config.batch_size // num_parts


def make_loader(
    config: TrainingConfig,
    accelerator: Accelerator,
    data: SegmentationData,
    image_processor: BaseImageProcessor,
    step: int,
) -> DataLoader:
    """Make an endless loader of this process's parts of batches, which starts after a step of the run."""
    if config.streaming and step:
        accelerator.print(f"Reading over {step * config.batch_size} images of the stream that were used already.")
    normalizes = getattr(image_processor, "do_normalize", True)
    transform = training_transforms(
        crop_size=config.crop_size,
        resize_to=config.resize_to,
        scale_range=config.scale_range,
        max_class_share=config.max_class_share,
        flip_probability=config.flip_probability,
        photometric_distortion=config.photometric_distortion,
        ignore_index=data.ignore_index,
        image_mean=image_processor.image_mean if normalizes else [0.0] * 3,
        image_std=image_processor.image_std if normalizes else [1.0] * 3,
    )
    return make_training_loader(
        data,
        transform,
        divide_batch(config, accelerator.num_processes),
        seed=config.seed,
        num_workers=config.num_workers,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        first_batch=step * config.gradient_accumulation_steps,
        shuffle_buffer=config.shuffle_buffer,
        pin_memory=accelerator.device.type == "cuda",
    )


def find_class_weights(data: SegmentationData, power: float) -> torch.Tensor | None:
    """
    Compute how much a pixel of each class counts: its share of the labelled pixels to a negative power.

    Args:
        data ([`SegmentationData`]): Its label maps are counted, 2,000 at most: a stream's first, or a sample.
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
