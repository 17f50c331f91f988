# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Everything that determines a training run, and the recipes that come with the package."""

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..engines.names import full_name
from ..utils.messages import did_you_mean
from ..utils.yaml_files import read_yaml

RECIPES = Path(__file__).parent / "recipes"

# Fields whose values may change when a run is resumed: locations, monitoring, and how things are computed.
_MAY_CHANGE = {
    "data",
    "output",
    "validation_split",
    "class_names",
    "backbone_weights",
    "gradient_accumulation_steps",
    "compile",
    "num_workers",
    "logging_steps",
    "evaluation_steps",
    "evaluation_limit",
    "save_steps",
    "keep_checkpoints",
    "trackers",
}


def _option(default: Any, help: str) -> Any:
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainingConfig:
    """
    A training run. The help text of each field is its documentation; `cgrseg train --help` shows them all.

    The defaults are the paper's (section 4.1) for ADE20K. Steps are optimiser steps, sizes are pixels.
    """

    # What is trained
    model: str = _option("t", "Preset (xs, t, b, l), shipped, or a folder or Hub id of a semantic segmentation model.")
    model_settings: dict[str, Any] = _option({}, "Settings that replace those of the model's configuration.")
    backbone_weights: str | None = _option(
        None, "ImageNet weights of the backbone: a file, or a name such as timm's; 'none' for random weights."
    )

    # What it is trained on
    data: str | None = _option(None, "Folder or Hub id of images with label maps.")
    dataset: str | None = _option(None, "Name of the known data set, for instance ade20k.")
    train_split: str = _option("train", "Split to train on.")
    validation_split: str | None = _option("validation", "Split to evaluate on; 'none' trains without evaluating.")
    image_column: str | None = _option(None, "Column of the images, if it is not found automatically.")
    annotation_column: str | None = _option(None, "Column of the label maps, if it is not found automatically.")
    label_ids: str = _option("auto", "Convention of the ids in the label maps, for instance raw or train-ids.")
    reduce_labels: bool | None = _option(None, "Id 0 means unlabelled, and all others are one too high.")
    class_names: str | None = _option(None, "File of the classes' names: id2label.json, or text with one a line.")
    ignore_index: int = _option(255, "Label of pixels that do not count; with more than 255 classes use -100.")
    streaming: bool = _option(False, "Read the data as a stream, without keeping them on the disk.")
    shuffle_buffer: int = _option(1000, "With streaming: number of samples from which the next one is drawn.")

    # Augmentation
    crop_size: tuple[int, int] = _option((512, 512), "Height and width of training crops.")
    resize_to: tuple[int, int] = _option((2048, 512), "Bounds of an image's longer and shorter side at scale 1.")
    scale_range: tuple[float, float] = _option((0.5, 2.0), "Least and largest random scale.")
    max_class_share: float = _option(0.75, "Draw a crop again while one class fills this share of it.")
    flip_probability: float = _option(0.5, "How often an image is mirrored.")
    photometric_distortion: bool = _option(True, "Change brightness, contrast, saturation and hue.")

    # Optimisation
    max_steps: int = _option(160_000, "Length of the training in steps.")
    epochs: float | None = _option(None, "Length of the training in passes over the data, instead of steps.")
    batch_size: int = _option(16, "Images per step, over all processes and accumulated parts.")
    gradient_accumulation_steps: int = _option(1, "Parts in which each process computes its share of a batch.")
    learning_rate: float = _option(1.2e-4, "Highest learning rate, of the backbone.")
    head_learning_rate_factor: float = _option(10.0, "How many times faster the decoder learns.")
    weight_decay: float = _option(0.01, "Decoupled weight decay.")
    betas: tuple[float, float] = _option((0.9, 0.999), "Decay rates of AdamW's two moments.")
    warmup_steps: int = _option(1500, "Steps over which the learning rate rises linearly.")
    warmup_factor: float = _option(1e-6, "Share of the learning rate at the first step.")
    poly_power: float = _option(1.0, "Power of the decrease to 0.")
    max_grad_norm: float | None = _option(None, "Clip the gradient's norm to this.")
    loss_normalization: Literal["all", "valid"] = _option(
        "all", "Divide the loss by all pixels, as the reference does, or by those that are not ignored."
    )
    class_weight_power: float = _option(
        0.0, "Weight each class by its share of the labelled pixels to this negative power: 0 weights all equally."
    )
    ema_decay: float | None = _option(
        None, "Keep a moving average of the weights with this decay, and save it as the model."
    )
    freeze_batch_norm: bool = _option(False, "Do not update the statistics of batch normalisation.")
    sync_batch_norm: bool = _option(True, "With several GPUs, share the statistics of batch normalisation.")

    # Computing
    precision: Literal["float32", "bfloat16", "float16"] = _option(
        "float32", "Type of the network's arithmetic, by mixed precision."
    )
    channels_last: bool = _option(False, "Keep images and weights with the channels as the innermost dimension.")
    compile: bool = _option(False, "Compile the model.")
    num_workers: int = _option(4, "Processes that read and augment images, for each training process.")
    seed: int = _option(0, "Seed of the initial weights, the batches and the augmentation.")

    # Watching and keeping
    output: str = _option("runs/train", "Folder of checkpoints, logs and the model.")
    logging_steps: int = _option(50, "Steps between two entries of the log.")
    evaluation_steps: int = _option(16_000, "Steps between two evaluations; the last step is always evaluated.")
    evaluation_limit: int | None = _option(None, "Number of images to evaluate on while training.")
    save_steps: int = _option(4000, "Steps between two checkpoints.")
    keep_checkpoints: int = _option(2, "How many of the newest checkpoints are kept; the best model is kept too.")
    trackers: str = _option("tensorboard", "Other destinations of the log: tensorboard, trackio, wandb, or none.")

    def __post_init__(self):
        for name, kind in field_types().items():
            object.__setattr__(self, name, _convert(name, getattr(self, name), kind))
        for name in ("validation_split", "backbone_weights"):
            if getattr(self, name) in ("none", ""):
                object.__setattr__(self, name, None)
        for names, least in (
            (("max_steps", "batch_size", "gradient_accumulation_steps", "shuffle_buffer", "keep_checkpoints"), 1),
            (("logging_steps", "evaluation_steps", "evaluation_limit", "save_steps"), 1),
            (("learning_rate", "head_learning_rate_factor", "weight_decay", "warmup_steps", "warmup_factor"), 0),
            (("poly_power", "class_weight_power", "num_workers", "seed"), 0),
        ):
            for name in names:
                value = getattr(self, name)
                self._check(name, value is None or value >= least, f"at least {least}")
        for name in ("epochs", "max_grad_norm"):
            self._check(name, getattr(self, name) is None or getattr(self, name) > 0, "more than 0")
        for name in ("crop_size", "resize_to"):
            self._check(name, min(getattr(self, name)) >= 1, "at least 1 pixel a side")
        self._check("scale_range", 0 < self.scale_range[0] <= self.scale_range[1], "positive, the least first")
        self._check("max_class_share", 0 < self.max_class_share <= 1, "more than 0 and at most 1")
        self._check("flip_probability", 0 <= self.flip_probability <= 1, "from 0 to 1")
        self._check("warmup_factor", self.warmup_factor <= 1, "at most 1")
        self._check("ema_decay", self.ema_decay is None or 0 < self.ema_decay < 1, "between 0 and 1")
        if self.streaming and self.epochs is not None:
            raise ValueError("The length of a pass over streamed data is unknown: set max_steps, not epochs.")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)}, but has to be {expected}.")

    def replace(self, **values: Any) -> "TrainingConfig":
        """
        Make a configuration with other values for some fields.

        `model_settings` are added to the existing ones, and `max_steps` replaces `epochs`.
        """
        check_field_names(values)
        if values.get("max_steps") is not None:
            if values.get("epochs") is not None:
                raise ValueError("max_steps and epochs both determine how long to train: set one of them.")
            values["epochs"] = None
        if "model_settings" in values:
            values["model_settings"] = {**self.model_settings, **values["model_settings"]}
        return dataclasses.replace(self, **values)

    def differences(self, other: "TrainingConfig") -> list[str]:
        """List the fields that differ and must not when a run is resumed, each with both values."""
        return [
            f"{field.name} ({getattr(self, field.name)}, now {getattr(other, field.name)})"
            for field in dataclasses.fields(self)
            if field.name not in _MAY_CHANGE and getattr(self, field.name) != getattr(other, field.name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON or YAML, with lists in place of tuples."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def recipe_names() -> list[str]:
    """List the recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str | Path) -> TrainingConfig:
    """
    Load a recipe by name, or from a YAML or JSON file.

    A file holds fields of [`TrainingConfig`] and, under `base`, the name of a recipe that it starts from; its
    `model_settings` replace those of that recipe.

    Raises:
        ValueError: If there is no such recipe, or it has an unknown field or a wrong value.
    """
    path = RECIPES / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
        if not path.is_file():
            raise ValueError(
                f"There is no recipe {str(name)!r}.{did_you_mean(str(name), recipe_names())} The recipes are "
                f"{', '.join(recipe_names())}; the path of a YAML file works as well."
            )
    values = read_yaml(path)
    base = load_recipe(values.pop("base")) if "base" in values else TrainingConfig()
    if "model_settings" in values:
        base = dataclasses.replace(base, model_settings={})  # a file holds all of them
    if values.get("epochs") is not None:
        values.pop("max_steps", None)  # the file of a run holds both
    return base.replace(**values)


def check_field_names(values: Mapping[str, Any]) -> None:
    """Refuse names that are not fields of a training configuration."""
    names = [one.name for one in dataclasses.fields(TrainingConfig)]
    for name in values:
        if name not in names:
            raise ValueError(f"A training configuration has no field {name}.{did_you_mean(name, names)}")


@functools.cache
def field_types() -> dict[str, Any]:
    """Find the type of each field of a training configuration."""
    return typing.get_type_hints(TrainingConfig)


def without_none(kind: Any) -> Any:
    """Remove None from the type of an optional value."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    return next(argument for argument in typing.get_args(kind) if argument is not types.NoneType)


def _convert(name: str, value: Any, kind: Any) -> Any:
    """
    Convert a value, as it is written in YAML, JSON or by people, to the type of its field.

    Raises:
        ValueError: If that is not possible.
    """
    if value is None and without_none(kind) is not kind:
        return None
    kind = without_none(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if name == "precision":
            value = full_name("no" if value is False else str(value))  # YAML reads a bare `no` as False
        if value in arguments:
            return value
        raise ValueError(f"{name} is {value!r}, but has to be one of {', '.join(map(repr, arguments))}.")
    if origin is tuple:
        values = value if isinstance(value, list | tuple) else [value] * len(arguments)
        if len(values) != len(arguments):
            raise ValueError(f"{name} has {len(values)} values ({value}), but takes {len(arguments)}.")
        return tuple(_convert(name, one, argument) for one, argument in zip(values, arguments))
    if origin is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif kind is bool or isinstance(value, bool):
        if kind is bool and isinstance(value, bool):
            return value
    elif kind in (int, float):
        with contextlib.suppress(TypeError, ValueError):
            number = float(value)  # YAML reads 1e-4 as text
            if kind is float or number == int(number):
                return kind(number)
    elif isinstance(value, str | Path):
        return str(value)
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, "a mapping")
    raise ValueError(f"{name} is {value!r}, but has to be {expected}.")
