# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Model cards from what was measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

_TEMPLATE = Path(__file__).parent / "model_card.md.jinja"
# Scores in the card's table of the training, at most.
_CURVE_ROWS = 12


@dataclass(frozen=True)
class CardFacts:
    """
    What a card says that no file of the run knows.

    Args:
        name (`str`): The model's name.
        summary (`str`): What it is, in a sentence or two.
        dataset (`str`): Name of the data set that it was trained on.
        dataset_id (`str`): The data set's name as an identifier, for the card's metadata.
        license (`str`): Identifier of the weights' licence.
        uses (`str`): What the weights may be used for, and why.
        limits (`Sequence[str]`): What it does not do, and what was not tried.
        training (`str`): How it was trained: data, machine, duration.
        command (`str`): The command that made it.
        evaluation (`str`): The command that scores it.
        comparison (`str`): A paragraph, perhaps with a table, that sets it beside other models.
    """

    name: str
    summary: str
    dataset: str
    dataset_id: str
    license: str
    uses: str
    training: str
    command: str
    evaluation: str = ""
    limits: Sequence[str] = field(default_factory=tuple)
    comparison: str = ""


def make_model_card(
    facts: CardFacts,
    report: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    num_parameters: int,
    size: Mapping[str, int],
) -> ModelCard:
    """
    A card of a trained model.

    Args:
        facts ([`CardFacts`]): What is said in words.
        report (`Mapping`): The content of `report.json`, from an evaluation of this model.
        log (`Sequence[Mapping]`): The entries of the run's `log.jsonl`.
        num_parameters (`int`): Of the model.
        size (`Mapping[str, int]`): What the image processor resizes photos to, in pixels.

    Returns:
        `ModelCard`: with metadata that the Hub reads.
    """
    metrics = report["metrics"]
    data = ModelCardData(
        model_name=facts.name,
        license=facts.license,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["cgrseg", "semantic-segmentation", "vision"],
        datasets=[facts.dataset_id],
        eval_results=[
            EvalResult(
                task_type="image-segmentation",
                dataset_type=facts.dataset_id,
                dataset_name=facts.dataset,
                dataset_split="validation",
                metric_type=metric,
                metric_name=name,
                metric_value=round(metrics[metric], 4),
            )
            for metric, name in (("mean_iou", "mean IoU"), ("overall_accuracy", "pixel accuracy"))
        ],
    )
    return ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        facts=facts,
        metrics=metrics,
        classes=report["classes"],
        protocol=report["protocol"]["description"],
        num_images=report["num_images"],
        versions=report["versions"],
        curve=thin_out([entry for entry in log if "mean_iou" in entry], _CURVE_ROWS),
        losses=losses_by_step(log),
        num_parameters=num_parameters,
        size=_describe_size(size),
    )


def _describe_size(size: Mapping[str, int]) -> str:
    lengths = {name: length for name, length in dict(size).items() if length}
    if "height" in lengths:
        return f"{lengths['height']}×{lengths['width']} pixels (height × width)"
    text = f"a shorter side of {lengths['shortest_edge']} pixels"
    if "longest_edge" in lengths:
        text += f", or less where the longer one would exceed {lengths['longest_edge']}"
    return text


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a run's `log.jsonl`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def thin_out(entries: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the entries, evenly spread, the last always among them."""
    if len(entries) <= most:
        return list(entries)
    return [entries[round((index + 1) * len(entries) / most) - 1] for index in range(most)]


def losses_by_step(log: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """The training loss that was logged last before each evaluation."""
    losses, last = {}, float("nan")
    for entry in log:
        last = entry.get("loss", last)
        if "mean_iou" in entry:
            losses[entry["step"]] = last
    return losses
