# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Cards of trained models, from what was measured."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..model.configuration_cgrseg import CGRSegConfig
from ..utils.yaml_files import read_yaml
from .markdown import escape_values
from .paper import CITATION, get_paper_figures

_TEMPLATE = Path(__file__).parent / "templates" / "trained.md.jinja"
# What parts of the template that are left out leave behind.
_GAP = re.compile(r"\n{3,}")
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
        license (`str`): Identifier of the weights' licence, `"other"` if the Hub has none for it.
        uses (`str`): What the weights may be used for, and why.
        limits (`Sequence[str]`): What it does not do, and what was not tried.
        training (`str`): How it was trained: data, machine, duration.
        command (`str`): The command that made it.
        evaluation (`str`): The command that scores it.
        comparison (`str`): A paragraph, perhaps with a table, that sets it beside other models.
        license_name (`str`): A name for another licence, in small letters with hyphens.
        license_link (`str`): Where another licence stands: an address, or `LICENSE` or `LICENSE.md` beside the card.
        paper_checkpoint (`str`): Which of the paper's models this one repeats, such as `"cgrseg-t-ade20k"`; the paper's
            figures are then set beside those that were measured.
        is_shipped (`bool`): Whether it is the model that comes with the package, so that the example finds it there.

    Raises:
        ValueError: If another licence lacks its name or link, or the paper has no such model.
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
    license_name: str = ""
    license_link: str = ""
    paper_checkpoint: str = ""
    is_shipped: bool = False

    def __post_init__(self):
        if isinstance(self.limits, str):
            object.__setattr__(self, "limits", (self.limits,))
        if self.license == "other" and not (self.license_name and self.license_link):
            raise ValueError("license is 'other': give license_name and license_link too, or the Hub shows no licence.")
        if self.paper_checkpoint:
            get_paper_figures(self.paper_checkpoint)


_NAMES = [one.name for one in fields(CardFacts)]
_NEEDED = [one.name for one in fields(CardFacts) if one.default is MISSING and one.default_factory is MISSING]
FACTS_HINT = f"""The facts are a YAML file that you write, of what no file of the run knows. It needs \
{", ".join(_NEEDED)}, and may have {", ".join(name for name in _NAMES if name not in _NEEDED)}. For example:

name: CGRSeg-T for my streets
summary: It finds road, building and sky in photos of streets.
dataset: My streets
dataset_id: my-streets
license: apache-2.0
uses: Whatever the licence allows.
training: 300 photos, 2,000 steps on one GPU in 40 minutes.
command: cgrseg train --recipe finetune --data mydata"""


def read_facts(path: Path) -> CardFacts:
    """
    Facts from a YAML file with the fields of [`CardFacts`].

    Raises:
        ValueError: If there is no such file, it is no YAML, or a field is missing or unknown.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}. {FACTS_HINT}")
    values = read_yaml(path)
    if missing := [name for name in _NEEDED if name not in values]:
        raise ValueError(f"{path} does not say {', '.join(missing)}. {FACTS_HINT}")
    if unknown := sorted(values.keys() - set(_NAMES)):
        raise ValueError(
            f"{path} has {', '.join(unknown)}, which a card has no place for: the names are {', '.join(_NAMES)}."
        )
    return CardFacts(**values)


def make_model_card(
    facts: CardFacts,
    report: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]],
    num_parameters: int,
    size: Mapping[str, int],
    benchmark: Mapping[str, Any] | None = None,
    model_type: str = CGRSegConfig.model_type,
) -> ModelCard:
    """
    A card of a trained model.

    Args:
        facts ([`CardFacts`]): What is said in words.
        report (`Mapping`): The content of `report.json`, from an evaluation of this model.
        log (`Sequence[Mapping]`): The entries of the run's `log.jsonl`.
        num_parameters (`int`): Of the model.
        size (`Mapping[str, int]`): What the image processor resizes photos to, in pixels.
        benchmark (`Mapping`, *optional*): The content of `benchmark.json` from `cgrseg benchmark`: its times go into
            the card together with the machine. Without it the card is silent about speed.
        model_type (`str`, *optional*, defaults to `"cgrseg"`): Its configuration's `model_type`: a card of another
            architecture says nothing of CGRSeg.

    Returns:
        `ModelCard`: with metadata that the Hub reads.
    """
    metrics = report["metrics"]
    protocol, split = report["protocol"]["description"], report["data"].get("split")
    data = ModelCardData(
        model_name=facts.name,
        license=facts.license,
        license_name=facts.license_name or None,
        license_link=facts.license_link or None,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=[model_type, "semantic-segmentation", "vision"],
        datasets=[facts.dataset_id],
        metrics=["mean_iou"],
        eval_results=[
            EvalResult(
                task_type="image-segmentation",
                task_name="semantic segmentation",
                dataset_type=facts.dataset_id,
                dataset_name=facts.dataset,
                dataset_split=split,
                metric_type=metric,
                metric_name=name,
                metric_value=round(metrics[metric], 4),
                metric_args={"protocol": protocol, "images": report["num_images"]},
            )
            for metric, name in (("mean_iou", "mean IoU"), ("overall_accuracy", "pixel accuracy"))
        ],
    )
    shown = escape_values(report)
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATE),
        facts=facts,
        metrics=metrics,
        classes=shown["classes"],
        protocol=shown["protocol"]["description"],
        split=shown["data"].get("split"),
        num_images=shown["num_images"],
        precision=shown.get("precision"),
        versions=shown["versions"],
        curve=thin_out([entry for entry in log if "mean_iou" in entry], _CURVE_ROWS),
        losses=losses_by_step(log),
        num_parameters=num_parameters,
        size=describe_size(size),
        beside_paper=_set_beside_paper(facts.paper_checkpoint, metrics, num_parameters),
        benchmark=escape_values(benchmark),
        is_cgrseg=model_type == CGRSegConfig.model_type,
        citation=CITATION,
    )
    card.text = _GAP.sub("\n\n", card.text).rstrip()
    return card


def _set_beside_paper(checkpoint: str, metrics: Mapping[str, float], num_parameters: int) -> list[tuple[str, str, str]]:
    """Rows of what was measured here beside what the paper reports: name, ours, the paper's."""
    if not checkpoint:
        return []
    figures = get_paper_figures(checkpoint)
    rows = [("mean IoU, %", f"{metrics['mean_iou'] * 100:.2f}", figures.miou)]
    rows.append(("parameters, millions", f"{num_parameters / 1e6:.2f}", figures.params_m))
    return [(name, ours, str(paper)) for name, ours, paper in rows if paper is not None]


def describe_size(size: Mapping[str, int]) -> str:
    """What an image processor resizes photos to, in words."""
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
