# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the paper reports of its own models, and how to cite it."""

import json
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "templates"
_FIGURES = json.loads((_FOLDER / "paper_figures.json").read_text(encoding="utf-8"))

# The models of the paper by size and data set, which are also the names of the recipes that would make them.
PAPER_CHECKPOINTS: tuple[str, ...] = tuple(_FIGURES["checkpoints"])
CITATION = (_FOLDER / "citation.bib").read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class PaperFigures:
    """
    Figures of one of the paper's models, `None` where we have none.

    Args:
        miou (`float`, *optional*): Mean IoU in percent.
        params_m (`float`, *optional*): Millions of parameters.
        gflops (`float`, *optional*): Billions of multiply-adds at 512×512 pixels.
        images_per_s (`float`, *optional*): Images a second on the machine of the paper.
    """

    miou: float | None = None
    params_m: float | None = None
    gflops: float | None = None
    images_per_s: float | None = None


def get_paper_figures(checkpoint: str) -> PaperFigures:
    """
    The paper's figures for one of `PAPER_CHECKPOINTS`.

    Raises:
        ValueError: If the paper has no such model.
    """
    if checkpoint not in PAPER_CHECKPOINTS:
        raise ValueError(f"The paper has no model {checkpoint!r}: its models are {', '.join(PAPER_CHECKPOINTS)}.")
    return PaperFigures(**_FIGURES["checkpoints"][checkpoint])
