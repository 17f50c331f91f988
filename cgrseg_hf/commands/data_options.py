# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Options about data that several commands have."""

from typing import Annotated

import typer

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
