# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg card`."""

from pathlib import Path
from typing import Annotated

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
            "and more. Needed; without it, an example is shown.",
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
    Write a model's card, README.md in its folder, from an evaluation and the facts that you write.

    model_cards/cgrseg-t-camvid.yaml in the repository shows an example of the facts.
    """
    from ..evaluation.report import check_report
    from ..hub.cards import FACTS_HINT, check_may_write, make_folder_card, read_facts, read_log, write_card
    from ..hub.staging import read_id2label, read_json
    from ..utils.provenance import digest_weights

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json: pass the folder of a model, such as runs/mine/best.")
    words = None if facts is None else read_facts(facts)
    scores = read_json(_find_report(report, "report.json"))
    speed = None if benchmark is None else read_json(_find_report(benchmark, "benchmark.json"))
    if words is None:
        raise ValueError(f"There is no --facts. {FACTS_HINT}")
    target = folder / "README.md"
    check_may_write(target, overwrite)
    check_report(scores, folder, read_id2label(folder), report, digest_weights(folder))
    log = log or folder.resolve().parent / "log.jsonl"
    written = make_folder_card(folder, words, scores, read_log(log) if log.is_file() else [], speed)
    write_card(written, target, overwrite, scores.get("weights"))
    name, precision = scores.get("model", "a model without a name"), scores.get("precision", "unknown precision")
    if not scores.get("weights"):
        echo(f"Warning: {report} has no checksums of weights: make sure that it is of those in {folder}.", err=True)
    echo(f"Scores of {name}: {precision}, {scores['num_images']} images.")
    echo(f"The card is {target}. Next: cgrseg push {folder} USER/NAME --report {report}")


def _find_report(path: Path, name: str) -> Path:
    """The report of another command, by its folder or file."""
    path = path / name if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"There is no {path}: pass the folder that {_WRITERS[name]} wrote, or this file in it.")
    return path
