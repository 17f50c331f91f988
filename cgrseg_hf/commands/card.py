# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg card`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..utils.messages import echo

_WRITERS = {"report.json": "cgrseg evaluate", "benchmark.json": "cgrseg benchmark"}


def card(
    folder: Annotated[
        Path, typer.Argument(help="Folder of the model and its image processor, such as runs/mine/best.")
    ],
    report: Annotated[
        Path,
        typer.Option(help="Folder that evaluate wrote for this model, or its report.json."),
    ],
    facts: Annotated[
        Path | None,
        typer.Option(
            help="YAML of what no file knows: name, summary, dataset, dataset_id, license, uses, training, command "
            "and more. Needed; left out, an example is shown.",
            show_default=False,
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(help="The training's log.jsonl, for the curve.", show_default="the one beside the model's folder"),
    ] = None,
    benchmark: Annotated[
        Path | None,
        typer.Option(
            help="Folder that benchmark wrote, or its benchmark.json, for the speed.", show_default="no speed"
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a README.md that this command did not write.")
    ] = False,
) -> None:
    """
    Write a model's card, README.md in its folder, from an evaluation and what you say of it.

    model_cards/cgrseg-t-camvid.yaml in the repository shows what the facts look like.
    """
    from ..hub.model_card import FACTS_HINT, check_may_write, read_facts

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json: give the folder of a model, such as runs/mine/best.")
    words = None if facts is None else read_facts(facts)
    scores = _read(report, "report.json")
    speed = None if benchmark is None else _read(benchmark, "benchmark.json")
    if words is None:
        raise ValueError(f"There is no --facts. {FACTS_HINT}")
    target = folder / "README.md"
    check_may_write(target, overwrite)

    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation

    from ..evaluation.report import check_report
    from ..hub.model_card import describe_size, make_model_card, read_log, write_card

    config = AutoConfig.from_pretrained(folder)
    check_report(scores, folder, config.id2label, report)
    with torch.device("meta"):
        model = AutoModelForSemanticSegmentation.from_config(config)
    size = AutoImageProcessor.from_pretrained(folder).size
    log = log or folder.resolve().parent / "log.jsonl"
    written = make_model_card(
        words,
        scores,
        read_log(log) if log.is_file() else [],
        model.num_parameters(),
        size,
        speed,
        config.model_type,
    )
    write_card(written, target, overwrite, scores.get("weights"))
    name, precision = scores.get("model", "a model without a name"), scores.get("precision", "unknown precision")
    if not scores.get("weights"):
        echo(f"Warning: {report} does not tell its weights: see that they are those in {folder}.", err=True)
    echo(f"Scores of {name}: {precision}, {scores['num_images']} images, {describe_size(size)}.")
    echo(f"The card is {target}. Next: cgrseg push {folder} USER/NAME --report {report}")


def _read(path: Path, name: str) -> dict[str, Any]:
    """A report of another command, by its folder or file."""
    path = path / name if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"There is no {path}: give the folder that {_WRITERS[name]} wrote, or this file of it.")
    from ..hub.files import read_json

    return read_json(path)
