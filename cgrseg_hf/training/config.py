# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Everything that decides a training run, and the recipes that come with the package."""

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

# What a run may be continued with other values of: where things are, how they are watched, and how they are computed.
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
    model_settings: dict[str, Any] = _option({}, "Settings of the model's configuration that differ from its own.")
    backbone_weights: str | None = _option(
        None, "ImageNet weights of the backbone: a file, or a name such as timm's; 'none' goes without."
    )

    # What it is trained on
    data: str | None = _option(None, "Folder or Hub id of images with label maps.")
    dataset: str | None = _option(None, "Whose classes and ids these are, for instance ade20k.")
    train_split: str = _option("train", "Split to train on.")
    validation_split: str | None = _option("validation", "Split to evaluate on; 'none' trains without evaluating.")
    image_column: str | None = _option(None, "Column of the images, where it is not found by itself.")
    annotation_column: str | None = _option(None, "Column of the label maps, where it is not found by itself.")
    label_ids: str = _option("auto", "Convention of the ids in the label maps, for instance raw or train-ids.")
    reduce_labels: bool | None = _option(None, "Whether id 0 means unlabelled and all others are one too high.")
    class_names: str | None = _option(None, "File of the classes' names: id2label.json, or text with one a line.")
    ignore_index: int = _option(255, "Label of pixels that do not count; with more than 255 classes take -100.")
    streaming: bool = _option(False, "Read the data as they come, without keeping them on the disk.")
    shuffle_buffer: int = _option(1000, "With streaming: among how many samples the next one is drawn.")

    # Augmentation
    crop_size: tuple[int, int] = _option((512, 512), "Height and width of training crops.")
    resize_to: tuple[int, int] = _option((2048, 512), "Bounds of an image's longer and shorter side at scale 1.")
    scale_range: tuple[float, float] = _option((0.5, 2.0), "Least and largest random scale.")
    max_class_share: float = _option(0.75, "Draw a crop anew while one class fills this share of it.")
    flip_probability: float = _option(0.5, "How often an image is mirrored.")
    photometric_distortion: bool = _option(True, "Whether brightness, contrast, saturation and hue are changed.")

    # Optimisation
    max_steps: int = _option(160_000, "Length of the training in steps.")
    epochs: float | None = _option(None, "Length of the training in passes over the data, instead of steps.")
    batch_size: int = _option(16, "Images a step, over all processes and accumulated parts.")
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
        0.0, "Weight each class by its share of the labelled pixels to this negative power: 0 weights all alike."
    )
    ema_decay: float | None = _option(None, "Keep a moving average of the weights with this decay, and ship it.")
    freeze_batch_norm: bool = _option(False, "Leave the statistics of all batch normalisations as they are.")
    sync_batch_norm: bool = _option(True, "With several GPUs, share the statistics of batch normalisation.")

    # Computing
    precision: Literal["float32", "bfloat16", "float16"] = _option(
        "float32", "Type of the network's arithmetic, where mixed precision allows another."
    )
    channels_last: bool = _option(False, "Keep images and weights with the channels as the innermost dimension.")
    compile: bool = _option(False, "Compile the model.")
    num_workers: int = _option(4, "Processes that read and augment images, for each training process.")
    seed: int = _option(0, "Decides the initial weights, the batches and the augmentation.")

    # Watching and keeping
    output: str = _option("runs/train", "Folder of checkpoints, logs and the model.")
    logging_steps: int = _option(50, "Steps between two entries of the log.")
    evaluation_steps: int = _option(16_000, "Steps between two evaluations; the last step is always evaluated.")
    evaluation_limit: int | None = _option(None, "Evaluate on so many images while training.")
    save_steps: int = _option(4000, "Steps between two checkpoints.")
    keep_checkpoints: int = _option(2, "How many of the newest checkpoints stay; the best model stays besides.")
    trackers: str = _option("tensorboard", "Where the log goes as well: tensorboard, trackio, wandb, or none.")

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
            raise ValueError("Nobody knows how long a pass over streamed data is: give max_steps, not epochs.")

    def _check(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)}, but has to be {expected}.")

    def replace(self, **values: Any) -> "TrainingConfig":
        """
        A configuration with other values for some fields.

        `model_settings` are added to those that are there, and `max_steps` takes the place of `epochs`.
        """
        check_field_names(values)
        if values.get("max_steps") is not None:
            if values.get("epochs") is not None:
                raise ValueError("max_steps and epochs both say how long to train: give one of them.")
            values["epochs"] = None
        if "model_settings" in values:
            values["model_settings"] = {**self.model_settings, **values["model_settings"]}
        return dataclasses.replace(self, **values)

    def differences(self, other: "TrainingConfig") -> list[str]:
        """The fields that differ and without which a run would not be the same, each with both values."""
        return [
            f"{field.name} ({getattr(self, field.name)}, now {getattr(other, field.name)})"
            for field in dataclasses.fields(self)
            if field.name not in _MAY_CHANGE and getattr(self, field.name) != getattr(other, field.name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All values, with lists for tuples, as they go to JSON or YAML."""
        values = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def load_recipe(name: str | Path) -> TrainingConfig:
    """
    A recipe by name, or from a YAML or JSON file of one's own.

    A file holds fields of [`TrainingConfig`] and, under `base`, the name of a recipe that it starts from; its
    `model_settings` take the place of the other's.

    Raises:
        ValueError: If there is no such recipe, or it has a field that does not exist or a value that cannot be.
    """
    path = RECIPES / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
        if not path.is_file():
            raise ValueError(
                f"There is no recipe {str(name)!r}.{did_you_mean(str(name), recipe_names())} The recipes are "
                f"{', '.join(recipe_names())}; a file of your own works as well."
            )
    values = read_yaml(path)
    base = load_recipe(values.pop("base")) if "base" in values else TrainingConfig()
    if "model_settings" in values:
        base = dataclasses.replace(base, model_settings={})  # a file has them all
    if values.get("epochs") is not None:
        values.pop("max_steps", None)  # a run's own file has both
    return base.replace(**values)


def check_field_names(values: Mapping[str, Any]) -> None:
    """Refuse names that are no field of a training configuration."""
    names = [one.name for one in dataclasses.fields(TrainingConfig)]
    for name in values:
        if name not in names:
            raise ValueError(f"A training configuration has no field {name}.{did_you_mean(name, names)}")


@functools.cache
def field_types() -> dict[str, Any]:
    """The type of each field of a training configuration."""
    return typing.get_type_hints(TrainingConfig)


def without_none(kind: Any) -> Any:
    """The type of an optional value where it is given; any other type as it is."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return kind
    return next(argument for argument in typing.get_args(kind) if argument is not types.NoneType)


def _convert(name: str, value: Any, kind: Any) -> Any:
    """
    A value in its field's type, from what YAML, JSON and people write for it.

    Raises:
        ValueError: If it cannot be one.
    """
    if value is None and without_none(kind) is not kind:
        return None
    kind = without_none(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if name == "precision":
            value = full_name("no" if value is False else str(value))  # YAML's reading of a bare no
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
            number = float(value)  # also of the text that YAML takes 1e-4 for
            if kind is float or number == int(number):
                return kind(number)
    elif isinstance(value, str | Path):
        return str(value)
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(kind, "a mapping")
    raise ValueError(f"{name} is {value!r}, but has to be {expected}.")
