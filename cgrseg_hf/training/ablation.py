# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The paper's ablation: the same training with parts of the decoder switched off."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..utils.processes import make_accelerator
from .config import TrainingConfig
from .loop import train

# The parts that each variant has, in the order of the paper's table.
_SWITCHES = ("use_rcm_in_pyramid_context", "use_rcm_in_reconstruction", "use_dynamic_prototype_head")
VARIANTS: dict[str, tuple[bool, bool, bool]] = {
    "baseline": (False, False, False),
    "pyramid-context": (True, False, False),
    "reconstruction": (False, True, False),
    "head": (False, False, True),
    "pyramid-context+reconstruction": (True, True, False),
    "all": (True, True, True),
}


@dataclass(frozen=True)
class Variant:
    """
    A trained variant.

    Args:
        name (`str`): One of `VARIANTS`.
        parameters (`int`): Number of the model's parameters.
        mean_iou (`float`, *optional*): Best on the validation split, 0 to 1; None if a signal stopped its training.
        folder (`Path`): Folder of its run.
        stopped_by (`int`, *optional*): The signal that stopped its training.
    """

    name: str
    parameters: int
    mean_iou: float | None
    folder: Path
    stopped_by: int | None = None


def run_ablation(config: TrainingConfig, names: Sequence[str] = tuple(VARIANTS), resume: bool = False) -> list[Variant]:
    """
    Train variants one after the other, each in a folder of `config.output`, and write `ablation.csv`.

    Args:
        config ([`TrainingConfig`]): Configuration of every variant; `model` is CGRSeg.
        names (`Sequence[str]`): Names of `VARIANTS`.
        resume (`bool`): Resume an ablation that was stopped: finished variants are not trained again.

    Raises:
        ValueError: If a name is not of `VARIANTS`, there is no validation split, or a training fails.
    """
    if unknown := [name for name in names if name not in VARIANTS]:
        raise ValueError(f"There is no variant {unknown[0]!r}: the variants are {', '.join(VARIANTS)}.")
    if config.validation_split is None:
        raise ValueError("An ablation compares by the validation split: name one with --validation-split.")
    accelerator = make_accelerator()
    output = Path(config.output)
    variants: list[Variant] = []
    for number, name in enumerate(names, start=1):
        accelerator.print(f"Variant {number} of {len(names)}: {name}, in {output / name}.")
        settings = dict(zip(_SWITCHES, VARIANTS[name]))
        result = train(config.replace(output=str(output / name), model_settings=settings), resume=resume)
        mean_iou = result.best_mean_iou if result.finished else None
        variants.append(Variant(name, result.num_parameters, mean_iou, result.output, result.stopped_by))
        if accelerator.is_main_process:
            _write_table(output / "ablation.csv", variants)
        if not result.finished:
            break
    return variants


def _write_table(path: Path, variants: list[Variant]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["variant", *_SWITCHES, "parameters", "mean_iou"])
        for variant in variants:
            switches = [int(switch) for switch in VARIANTS[variant.name]]
            writer.writerow([variant.name, *switches, variant.parameters, variant.mean_iou])
