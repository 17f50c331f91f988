# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg ablate`."""

from typing import Annotated

import typer

from ..training.config import TrainingConfig
from .configuration import takes_configuration


@takes_configuration
def ablate(
    config: TrainingConfig,
    variants: Annotated[str, typer.Option(help="Variants to train, separated by commas; by default all.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an ablation that was stopped.")] = False,
) -> None:
    """
    Train the paper's ablation: the decoder without its parts, with each, and with all of them.

    Each variant is a whole training with the given recipe; the table goes to ablation.csv.
    """
    from ..processes import leave_group
    from ..training.ablation import VARIANTS, run_ablation

    names = [name.strip() for name in variants.split(",")] if variants else list(VARIANTS)
    trained = run_ablation(config, names, resume=resume)
    if not leave_group():
        return
    print(f"{'variant':<32} {'parameters':>12} {'mean IoU':>9}")
    for variant in trained:
        score = "stopped" if variant.mean_iou is None else f"{variant.mean_iou:.4f}"
        print(f"{variant.name:<32} {variant.parameters:>12,} {score:>9}")
    print(f"The table is in {config.output}/ablation.csv.")
