# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg train`."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from ..training.config import TrainingConfig
from ..utils.messages import echo
from .configuration import takes_configuration


@takes_configuration
def train(
    config: TrainingConfig,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume the run in --output from its newest checkpoint; other options may be left out."
        ),
    ] = False,
) -> None:
    """
    Train a model on images with label maps.

    Every value of a recipe has an option of its own. On several GPUs: accelerate launch -m cgrseg_hf train, with the
    same options.
    """
    from ..training.loop import train as run_training
    from ..utils.processes import leave_group

    result = run_training(config, resume=resume)
    is_main = leave_group()
    if result.stopped_by is not None:
        raise typer.Exit(128 + result.stopped_by)  # as if the signal had ended this process
    if not is_main:
        return
    score = "" if result.best_mean_iou is None else f" (mean IoU {result.best_mean_iou:.2%})"
    echo(f"The model{score} is in {result.model}, the log in {result.output}.")
    echo(f"Next: {_evaluation_command(config, result.model)}")


def _evaluation_command(config: TrainingConfig, model: Path) -> str:
    """Write the shell command that evaluates the model on the validation split, or on what it was trained on."""
    values = {
        "data": config.data,
        "dataset": config.dataset,
        "split": config.validation_split or config.train_split,
        "label_ids": config.label_ids,
        "image_column": config.image_column,
        "annotation_column": config.annotation_column,
        "class_names": config.class_names,
    }
    defaults = TrainingConfig()
    words = ["cgrseg", "evaluate", str(model)]
    for name, value in values.items():
        if value not in (None, getattr(defaults, "validation_split" if name == "split" else name)):
            words += [f"--{name.replace('_', '-')}", value]
    if config.reduce_labels is not None:
        words.append("--reduce-labels" if config.reduce_labels else "--no-reduce-labels")
    if config.streaming:
        words.append("--streaming")
    return shlex.join(words)
