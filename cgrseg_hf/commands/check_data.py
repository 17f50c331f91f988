# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg check-data`."""

import json
from typing import Annotated

import typer

from ..utils.messages import echo
from .data_options import (
    AnnotationColumnOption,
    ClassNamesOption,
    DatasetOption,
    ImageColumnOption,
    LabelIdsOption,
    ReduceLabelsOption,
    announce,
    check_source,
)


def check_data(
    data: Annotated[str, typer.Argument(help="Folder of the data set, or its id on the Hugging Face Hub.")],
    dataset: DatasetOption = None,
    label_ids: LabelIdsOption = "auto",
    reduce_labels: ReduceLabelsOption = None,
    image_column: ImageColumnOption = None,
    annotation_column: AnnotationColumnOption = None,
    class_names: ClassNamesOption = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Split to look through; may be repeated. By default train and validation, where they exist."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Look at so many pairs of each split only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """
    Look through a data set before training: files, sizes, ids, and how often each class occurs.

    Exits with 1 if anything is found that training would stumble over or learn wrongly.
    """
    try:
        check_source(data, dataset, label_ids, reduce_labels, class_names)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not as_json:
        announce("Looking for the data")

    from ..data import SplitNotFoundError, load_data, read_class_names
    from ..data import check_data as check_split

    splits, missing = {}, []
    for name in split or ("train", "validation"):
        try:
            splits[name] = load_data(
                data,
                name,
                dataset,
                image_column=image_column,
                annotation_column=annotation_column,
                label_ids=label_ids,
                reduce_labels=reduce_labels,
                id2label=None if class_names is None else read_class_names(class_names),
            )
        except SplitNotFoundError as error:
            missing.append(error)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        else:
            if splits[name].split is None:
                break  # the same pairs again for every other split
    if missing and (split or not splits):
        raise typer.BadParameter(str(missing[0]))

    checks = {}
    for name, loaded in splits.items():
        training = None if name == "train" else checks.get("train")
        checks[name] = check_split(loaded, limit, training, show_progress=not as_json)
        if not as_json:
            echo(f"\n{name}: {checks[name]}")
    if as_json:
        echo(json.dumps({name: check.to_dict() for name, check in checks.items()}, ensure_ascii=False, indent=1))
    if any(check.errors for check in checks.values()):
        raise typer.Exit(1)
