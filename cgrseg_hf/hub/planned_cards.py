# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Cards of the paper's models, of which there are no weights: how they would be made, and what the paper reports."""

from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import ModelCard, ModelCardData

from ..benchmark.counting import count_model
from ..data import get_description
from ..model.configuration_cgrseg import CGRSegConfig
from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
from ..training.config import load_recipe
from .paper import CITATION, get_paper_figures

_TEMPLATE = Path(__file__).parent / "templates" / "planned.md.jinja"
_IMAGENET_WEIGHTS = {
    size: f"timm/efficientformerv2_{name}.snap_dist_in1k" for size, name in (("t", "s1"), ("b", "s2"), ("l", "l"))
}
_STEPS_OF_A_SCHEDULE = (
    ("max_steps", "steps"),
    ("batch_size", "images a step"),
    ("crop_size", "crop, pixels"),
    ("scale_range", "random scale"),
    ("learning_rate", "learning rate of the backbone"),
    ("head_learning_rate_factor", "times that for the decoder"),
    ("weight_decay", "weight decay"),
    ("warmup_steps", "steps of warm-up"),
    ("poly_power", "power of the decrease to 0"),
    ("loss_normalization", "pixels that the loss is divided by"),
)


@dataclass(frozen=True)
class _PaperDataset:
    """A data set of the paper: its name, its identifier on cards, and what its folder is called when downloaded."""

    name: str
    identifier: str
    folder: str
    schedule: str


_ELSEWHERE = "The authors released a schedule for ADE20K alone; it stands in for the one of this data set."
_DATASETS = {
    "ade20k": _PaperDataset(
        "ADE20K", "ade20k", "ADEChallengeData2016", "The schedule is the one the authors released."
    ),
    "coco-stuff-164k": _PaperDataset("COCO-Stuff", "coco-stuff", "coco_stuff164k", _ELSEWHERE),
    "pascal-context-59": _PaperDataset("Pascal Context", "pascal-context", "VOCdevkit", _ELSEWHERE),
}


def make_planned_card(checkpoint: str) -> ModelCard:
    """
    A card that says first that there are no weights, then how they would be made and what the paper reports.

    Its metadata has no results: the paper's figures are no measurement of weights that this card could go with.

    Args:
        checkpoint (`str`): One of `PAPER_CHECKPOINTS`.

    Raises:
        ValueError: If the paper has no such model.
    """
    figures = get_paper_figures(checkpoint)
    recipe = load_recipe(checkpoint)
    dataset = _DATASETS[recipe.dataset]
    num_classes = len(get_description(recipe.dataset).id2label)
    with torch.device("meta"):
        model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(recipe.model, num_labels=num_classes))
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["cgrseg", "semantic-segmentation", "vision"],
        datasets=[dataset.identifier],
    )
    return ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        checkpoint=checkpoint,
        name=f"CGRSeg-{recipe.model.upper()}",
        dataset=dataset,
        catalog_name=recipe.dataset,
        num_classes=num_classes,
        count=count_model(model.eval(), (512, 512)),
        weights=_IMAGENET_WEIGHTS[recipe.model],
        schedule=[(label, _describe(getattr(recipe, name))) for name, label in _STEPS_OF_A_SCHEDULE],
        figures=figures,
        citation=CITATION,
    )


def _describe(value: object) -> str:
    if isinstance(value, tuple):
        return ("×" if isinstance(value[0], int) else "–").join(map(_describe, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
