# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Model cards: made from what was measured, kept where people changed them, and extended by a push."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..model.configuration_cgrseg import CGRSegConfig
from ..utils.messages import printable
from ..utils.yaml_files import read_yaml

CARD_FILE = "README.md"
_TEMPLATES = Path(__file__).parent / "templates"
# Figures as the paper reports them, by the name of the recipe that repeats the training.
PAPER_FIGURES: dict[str, dict[str, float]] = json.loads(
    (_TEMPLATES / "paper_figures.json").read_text(encoding="utf-8")
)["checkpoints"]
_OTHER_LICENSE = ("license_name", "license_link")
_MARKUP = re.compile(r"([\\`*|~\[\]])")
# Rows of the training curve, at most.
_CURVE_ROWS = 12

# The last line of a card that `cgrseg card` wrote, with a digest of the text before it: it shows whether somebody has
# changed the card. The line before it has a digest of the weights that were scored.
_WRITTEN_MARK = "\n<!-- written by cgrseg card, {digest} -->\n"
_WEIGHTS_MARK = "\n<!-- of weights {digest} -->\n"
_DIGEST = "([0-9a-f]+)"
# The section that a push adds stands between these, so that the next push replaces it.
_PUSH_START, _PUSH_END = "<!-- written by cgrseg push -->", "<!-- end of what cgrseg push wrote -->"
_PUSH_SECTION = re.compile(rf"{re.escape(_PUSH_START)}.*?{re.escape(_PUSH_END)}\n*", re.DOTALL)


@dataclass(frozen=True)
class CardFacts:
    """
    What a card says that no file of the training run knows.

    Args:
        name (`str`): The model's name.
        summary (`str`): What the model is, in a sentence or two.
        dataset (`str`): Name of the data set that the model was trained on.
        dataset_id (`str`): The data set's name as an identifier, for the card's metadata.
        license (`str`): Identifier of the weights' licence, `"other"` if the Hub has none for it.
        uses (`str`): What the weights may be used for, and why.
        training (`str`): How the model was trained: data, machine, duration.
        command (`str`): The command that trained it.
        evaluation (`str`): The command that scores it.
        limits (`Sequence[str]`): What the model does not do, and what was not tried.
        comparison (`str`): A paragraph, perhaps with a table, that compares it with other models.
        license_name (`str`): A name for another licence, in small letters with hyphens.
        license_link (`str`): Where another licence is: an address, or `LICENSE` or `LICENSE.md` beside the card.
        paper_checkpoint (`str`): Which of the paper's models this one repeats, such as `"cgrseg-t-ade20k"`. The card
            then shows the paper's figures beside those that were measured.
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
    limits: Sequence[str] = ()
    comparison: str = ""
    license_name: str = ""
    license_link: str = ""
    paper_checkpoint: str = ""
    is_shipped: bool = False

    def __post_init__(self):
        if isinstance(self.limits, str):
            object.__setattr__(self, "limits", (self.limits,))
        if self.license == "other" and not (self.license_name and self.license_link):
            raise ValueError("license is 'other': add license_name and license_link, or the Hub shows no licence.")
        if self.paper_checkpoint and self.paper_checkpoint not in PAPER_FIGURES:
            raise ValueError(
                f"The paper has no model {self.paper_checkpoint!r}: its models are {', '.join(PAPER_FIGURES)}."
            )


_FIELDS = [field.name for field in fields(CardFacts)]
_REQUIRED = [field.name for field in fields(CardFacts) if field.default is MISSING]
FACTS_HINT = f"""The facts are a YAML file that you write, with what no file of the run knows. It needs \
{", ".join(_REQUIRED)}, and may have {", ".join(name for name in _FIELDS if name not in _REQUIRED)}. For example:

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
    Read a YAML file with the fields of [`CardFacts`].

    Raises:
        ValueError: If there is no such file, it is not YAML, or a field is missing or unknown.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}. {FACTS_HINT}")
    values = read_yaml(path)
    if missing := [name for name in _REQUIRED if name not in values]:
        raise ValueError(f"{path} does not have {', '.join(missing)}. {FACTS_HINT}")
    if unknown := sorted(values.keys() - set(_FIELDS)):
        raise ValueError(f"{path} has {', '.join(unknown)}, which is unknown: the names are {', '.join(_FIELDS)}.")
    return CardFacts(**values)


def make_folder_card(
    folder: Path,
    facts: CardFacts,
    report: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]] = (),
    benchmark: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Make the card of the model in a folder, see [`make_model_card`]."""
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation

    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        num_parameters = AutoModelForSemanticSegmentation.from_config(config).num_parameters()
    size = AutoImageProcessor.from_pretrained(folder).size
    return make_model_card(facts, report, log, num_parameters, size, benchmark, config.model_type)


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
    Make the card of a trained model.

    Args:
        facts ([`CardFacts`]): What is said in words.
        report (`Mapping`): The content of `report.json`, from an evaluation of this model.
        log (`Sequence[Mapping]`): The entries of the run's `log.jsonl`.
        num_parameters (`int`): Parameters of the model.
        size (`Mapping[str, int]`): Size that the image processor resizes photos to, in pixels.
        benchmark (`Mapping`, *optional*): The content of `benchmark.json` from `cgrseg benchmark`: its times go into
            the card together with the machine. Without it the card is silent about speed.
        model_type (`str`, *optional*, defaults to `"cgrseg"`): Its configuration's `model_type`: the card of another
            architecture says nothing about CGRSeg.

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
    card = ModelCard.from_template(
        data,
        template_path=str(_TEMPLATES / "trained.md.jinja"),
        facts=facts,
        metrics=metrics,
        report=escape_values(report),
        curve=_thin_out(read_curve(log)),
        num_parameters=num_parameters,
        size=_describe_size(size),
        paper=PAPER_FIGURES.get(facts.paper_checkpoint),
        benchmark=escape_values(benchmark),
        is_cgrseg=model_type == CGRSegConfig.model_type,
        citation=(_TEMPLATES / "citation.bib").read_text(encoding="utf-8").strip(),
    )
    card.text = re.sub(r"\n{3,}", "\n\n", card.text).rstrip()  # parts of the template that are left out leave gaps
    return card


def escape_values(value: Any) -> Any:
    """Make all text a line that Markdown and HTML show as it is: reports and models come from strangers too."""
    if isinstance(value, dict):
        return {escape_values(name): escape_values(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [escape_values(content) for content in value]
    if not isinstance(value, str):
        return value
    line = printable(" ".join(value.split()))
    return _MARKUP.sub(r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _describe_size(size: Mapping[str, int]) -> str:
    """Describe the size that an image processor resizes photos to."""
    lengths = {name: length for name, length in dict(size).items() if length}
    if "height" in lengths:
        return f"{lengths['height']}×{lengths['width']} pixels (height × width)"
    text = f"a shorter side of {lengths['shortest_edge']} pixels"
    if "longest_edge" in lengths:
        text += f", or less where the longer one would exceed {lengths['longest_edge']}"
    return text


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the entries of a run's `log.jsonl`."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_curve(log: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Pick the evaluations from a log, each with the training loss that was logged last before it."""
    curve, loss = [], float("nan")
    for entry in log:
        loss = entry.get("loss", loss)
        if "mean_iou" in entry:
            curve.append({**{name: entry[name] for name in ("step", "mean_iou", "overall_accuracy")}, "loss": loss})
    return curve


def _thin_out(curve: Sequence[Any]) -> list[Any]:
    """At most `_CURVE_ROWS` entries, evenly spread, the last always among them."""
    count = min(len(curve), _CURVE_ROWS)
    return [curve[round((index + 1) * len(curve) / count) - 1] for index in range(count)]


def check_may_write(path: Path, overwrite: bool = False) -> None:
    """
    Check that a card does not exist yet, or is as [`write_card`] wrote it.

    Raises:
        ValueError: If somebody else wrote or changed it, unless `overwrite` is set.
    """
    if overwrite or not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    mark = re.search(_WRITTEN_MARK.format(digest=_DIGEST) + r"\Z", text)
    if mark is None or mark[1] != _digest(text[: mark.start()]):
        raise ValueError(
            f"{path} was not written by `cgrseg card`, or somebody has changed it since: copy what you need into the "
            "facts, and add --overwrite (overwrite=True) to replace it."
        )


def write_card(card: ModelCard, path: Path, overwrite: bool = False, weights: Mapping[str, str] | None = None) -> None:
    """
    Write a card, marked as written by this package.

    Args:
        card ([`~huggingface_hub.ModelCard`]): The card.
        path (`Path`): The file, `README.md` in the model's folder.
        overwrite (`bool`, *optional*, defaults to `False`): Whether to replace a card that people wrote or changed.
        weights (`Mapping[str, str]`, *optional*): Checksums of the weights that were scored, as in a report.

    Raises:
        ValueError: If such a card exists and `overwrite` is not set.
    """
    check_may_write(path, overwrite)
    text = f"{card}\n"
    if weights:
        text += _WEIGHTS_MARK.format(digest=_digest_weights(weights))
    path.write_text(text + _WRITTEN_MARK.format(digest=_digest(text)), encoding="utf-8")


def check_card_weights(folder: Path, weights: Mapping[str, str]) -> None:
    """
    Check that the scores of a card that [`write_card`] wrote belong to the weights beside it.

    Args:
        folder (`Path`): The model's folder.
        weights (`Mapping[str, str]`): Checksums of its weights.

    Raises:
        ValueError: If the scores belong to other weights.
    """
    path = folder / CARD_FILE
    mark = re.search(_WEIGHTS_MARK.format(digest=_DIGEST), path.read_text(encoding="utf-8", errors="replace"))
    if mark is not None and mark[1] != _digest_weights(weights):
        raise ValueError(
            f"The scores in the card {path} are of other weights than those in {folder}: evaluate these, and write the "
            "card again with `cgrseg card`."
        )


def _digest_weights(weights: Mapping[str, str]) -> str:
    return _digest(json.dumps(weights, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_card(folder: Path) -> ModelCard:
    """
    Read the card in a model's folder.

    Raises:
        ValueError: If there is none, its metadata cannot be read, or they lack something that the Hub shows or needs.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no card: write {CARD_FILE} with `cgrseg card`, so that people learn what the model is for, "
            "how good it is and which licence it has."
        )
    try:
        card = ModelCard(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"The metadata at the top of {path} cannot be read: {error}") from error
    if problems := _find_problems(card):
        raise ValueError(f"The card {path} is not ready:\n" + "\n".join(f"- {problem}" for problem in problems))
    return card


def _find_problems(card: ModelCard) -> list[str]:
    """What a card lacks, each with its remedy; the Hub itself checks more."""
    data, problems = card.data.to_dict(), []
    if not data.get("license"):
        problems.append(f"license is missing: name the weights' licence, or other with {' and '.join(_OTHER_LICENSE)}.")
    elif data["license"] == "other":
        problems += [f"license is other, but {name} is missing." for name in _OTHER_LICENSE if not data.get(name)]
    for name, expected in (("library_name", "transformers"), ("pipeline_tag", "image-segmentation")):
        if data.get(name) != expected:
            problems.append(f"{name} is {data.get(name)!r}: set it to {expected}, by which the Hub shows the model.")
    if not card.text.strip():
        problems.append("there is no text below the metadata: say what the model is and what it is for.")
    return problems


def is_written_by_push(text: str) -> bool:
    """Check whether a card has the section that a push adds."""
    return _PUSH_START in text


def extend_card(
    card: ModelCard,
    repo_id: str,
    revision: str | None = None,
    exports: Sequence[str] = (),
    pictures: Sequence[str] = (),
    credit: str = "",
    has_code: bool = True,
) -> str:
    """
    Add a section on the repo before the first section of a card, in place of the one that an earlier push added.

    Args:
        card ([`~huggingface_hub.ModelCard`]): The folder's card.
        repo_id (`str`): The repo.
        revision (`str`, *optional*): The branch, if it is not `main`.
        exports (`Sequence[str]`): A line for each exported folder: its name and what it is.
        pictures (`Sequence[str]`): Names of the pictures to show, relative to the card.
        credit (`str`): Source of the pictures, and their licence.
        has_code (`bool`): Whether the model needs the code in the repo; models of transformers do not.

    Returns:
        `str`: the content of the card.
    """
    options = f', revision="{revision}"' if revision else ""
    options += ", trust_remote_code=True" if has_code else ""
    start = "The model's code lies beside the weights; `handler.py`" if has_code else "`handler.py`"
    lines = [
        _PUSH_START,
        "## From the Hub",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        f'segment = pipeline("image-segmentation", model="{repo_id}"{options})',
        "```",
        "",
        f"{start} serves it on Inference Endpoints.",
    ]
    if exports:
        lines += ["", "Exports for other engines, each in its own folder:", "", *(f"- {line}" for line in exports)]
    if pictures:
        lines += ["", *(f"![Classes that the model found]({quote(picture)})" for picture in pictures), "", credit]
    added = "\n".join([*lines, _PUSH_END, "", ""])
    text = _PUSH_SECTION.sub("", card.text)
    section = re.search(r"^## ", text, re.MULTILINE)
    if section:
        card.text = text[: section.start()] + added + text[section.start() :]
    else:
        card.text = text.rstrip("\n") + "\n\n" + added
    return str(card)
