# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Options that several commands have, and their parsing."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..engines.names import PRECISIONS, EngineName, full_name
from ..utils.messages import did_you_mean, echo

DatasetOption = Annotated[
    str | None,
    typer.Option(help="Name of a known data set, such as ade20k; otherwise id2label.json in the folder is read."),
]
LabelIdsOption = Annotated[str, typer.Option(help="How the known data set's files hold ids, such as raw or train-ids.")]
ReduceLabelsOption = Annotated[
    bool | None,
    typer.Option("--reduce-labels/--no-reduce-labels", help="Whether id 0 is ignored and others lowered by one."),
]
ImageColumnOption = Annotated[str | None, typer.Option(help="Column of the images, in tables.")]
AnnotationColumnOption = Annotated[str | None, typer.Option(help="Column of the annotations, in tables.")]
EngineOption = Annotated[EngineName, typer.Option(help="What computes the network.")]


TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        help="Load an export of the format torch too. It can run any code: use it only for files of people you trust.",
    ),
]


def _parse_device(text: str) -> str:
    """Refuse what cannot name a device of PyTorch. Using it later shows if it exists."""
    if not re.fullmatch(r"[a-z]+(:\d+)?", text):
        raise typer.BadParameter(f"{text!r} is not a device: name one such as cpu, cuda, cuda:1 or mps.")
    return text


DeviceOption = Annotated[
    str | None,
    typer.Option(
        parser=_parse_device,
        metavar="<device>",
        help="Where, such as cpu or cuda:1.",
        show_default="a GPU if there is one",
    ),
]


ClassNamesOption = Annotated[
    str | None,
    typer.Option(
        help="File of the classes' names: id2label.json, or text with one a line.", show_default="beside the data"
    ),
]


def parse_precision(text: str, known: Sequence[str] = PRECISIONS) -> str:
    """Find the full name of a precision."""
    precision = full_name(text)
    if precision not in known:
        raise typer.BadParameter(f"{text!r} is not one of {', '.join(known)}.{did_you_mean(text, known)}")
    return precision


PrecisionOption = Annotated[
    str | None,
    typer.Option(
        parser=parse_precision,
        metavar=f"[{'|'.join(PRECISIONS)}]",
        help="Type of the network's arithmetic.",
        show_default="float32, or the export's",
    ),
]


def parse_numbers(text: str, kind: type, option: str) -> list[Any]:
    """Split an option into numbers with commas, spaces or × between them."""
    try:
        return [kind(part) for part in re.split(r"[\s,x×]+", text.strip())]
    except ValueError:
        whole = "whole " if kind is int else ""
        raise typer.BadParameter(f"{text!r} is not made of {whole}numbers.", param_hint=option) from None


def parse_pair(text: str, kind: type, option: str) -> tuple[Any, Any]:
    """Parse two numbers, or one that counts twice."""
    numbers = parse_numbers(text, kind, option)
    if len(numbers) not in (1, 2):
        raise typer.BadParameter(f"{text!r} is neither one number nor two.", param_hint=option)
    return numbers[0], numbers[-1]


def split_list(text: str) -> list[str]:
    """Split an option with several values, with commas or spaces between them."""
    return [part for part in re.split(r"[\s,]+", text) if part]


def override_size(size: Any, shorter_side: int) -> dict[str, int]:
    """
    Replace the shorter side in an image processor's size.

    A fixed size becomes a square. The limit of the longer side grows in proportion, since it would otherwise shrink the
    shorter side again.
    """
    lengths = {name: length for name, length in dict(size).items() if length}
    if "height" in lengths:
        return {"height": shorter_side, "width": shorter_side}
    if "shortest_edge" in lengths and "longest_edge" in lengths:
        in_proportion = round(lengths["longest_edge"] * shorter_side / lengths["shortest_edge"])
        lengths["longest_edge"] = max(lengths["longest_edge"], in_proportion)
    return {**lengths, "shortest_edge": shorter_side}


def refuse_options(options: Mapping[str, Any], reason: str) -> None:
    """Refuse the options that are not None. The reason follows their names in the message."""
    if given := [f"--{name}" for name, value in options.items() if value is not None]:
        raise typer.BadParameter(f"{', '.join(given)}{reason}")


def check_source(
    data: str | None, dataset: str | None, label_ids: str, reduce_labels: bool | None, class_names: str | None
) -> None:
    """Refuse wrong options about data before anything is loaded."""
    from ..data.catalog import find_source

    find_source(data, dataset, label_ids, reduce_labels)
    check_names(dataset, class_names)


def check_names(dataset: str | None, class_names: str | None) -> None:
    """Refuse an unknown data set, and a file of class names that does not exist."""
    from ..data.catalog import get_description

    if dataset is not None:
        get_description(dataset)
    if class_names is not None and not Path(class_names).is_file():
        raise ValueError(f"There is no file of class names {class_names} (--class-names).")


def check_output_folder(folder: Path | None) -> Path | None:
    """Refuse a file in the place of an output folder."""
    if folder is not None and folder.is_file():
        raise typer.BadParameter(f"--output {folder} is a file: name a folder.")
    return folder


def announce(step: str) -> None:
    """Announce a slow step, in the first of several processes, before imports that take seconds themselves."""
    if os.environ.get("RANK", "0") == "0":
        echo(f"{step} ...", err=True)
