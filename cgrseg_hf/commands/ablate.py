# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg ablate`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ..training.config import TrainingConfig
from ..utils.messages import echo
from .configuration import takes_configuration

if TYPE_CHECKING:
    from ..training.ablation import Variant


@takes_configuration
def ablate(
    config: TrainingConfig,
    variants: Annotated[str, typer.Option(help="Variants to train, separated by commas; by default all.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Resume an ablation that was stopped.")] = False,
) -> None:
    """
    Train the paper's ablation: the decoder without its parts, with each, and with all of them.

    Each variant is a whole training with the given recipe; the table goes to ablation.csv.
    """
    from ..training.ablation import VARIANTS, run_ablation
    from ..utils.processes import leave_group

    names = [name.strip() for name in variants.split(",")] if variants else list(VARIANTS)
    trained = run_ablation(config, names, resume=resume)
    if leave_group():
        _print_table(trained)
        echo(f"The table is in {config.output}/ablation.csv.")
    if trained[-1].stopped_by is not None:
        raise typer.Exit(128 + trained[-1].stopped_by)  # as if the signal had ended this process


def _print_table(trained: "list[Variant]") -> None:
    echo(f"{'variant':<32} {'parameters':>12} {'mean IoU %':>10}")
    for variant in trained:
        score = "stopped" if variant.mean_iou is None else f"{100 * variant.mean_iou:.2f}"
        echo(f"{variant.name:<32} {variant.parameters:>12,} {score:>10}")
