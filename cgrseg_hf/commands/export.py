# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..engines.export_settings import DEFAULT_OPSET, LOWEST_OPSET, PRECISIONS, ExportSettings
from ..export.checks import DEFAULT_MAX_CALIBRATION, check_output, find_photos, locate_source
from ..pretrained.locating import SHIPPED
from ..utils.messages import echo
from .data_options import announce, parse_pair, parse_precision, refuse_options

if TYPE_CHECKING:
    from ..export import ExportReport


def _parse_precision(text: str) -> str:
    return parse_precision(text, PRECISIONS)


def export(
    model: Annotated[str, typer.Argument(help="Folder of the model, a Hugging Face Hub id, or shipped.")] = SHIPPED,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to make.", show_default="runs/export/FORMAT-PRECISION")
    ] = None,
    format: Annotated[
        Literal["onnx", "openvino", "torch"], typer.Option(help="Kind of file; torch is a program of torch.export.")
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            parser=_parse_precision,
            metavar=f"[{'|'.join(PRECISIONS)}]",
            help="Type of the network's arithmetic; int8 needs --calibration.",
        ),
    ] = "float32",
    size: Annotated[
        str | None,
        typer.Option(
            help="Height and width of the only input that the file is to take, such as 512x1024.", show_default="any"
        ),
    ] = None,
    include_preprocessing: Annotated[
        bool,
        typer.Option("--include-preprocessing", help="Take 8-bit RGB pictures, to be resized and normalised inside."),
    ] = False,
    include_argmax: Annotated[
        bool, typer.Option("--include-argmax", help="Give label maps of the input's size instead of logits.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Folder of photos to quantise by, and to compare the file with the model on."),
    ] = None,
    max_calibration: Annotated[
        int | None,
        typer.Option(min=1, help="Use so many of them, spread evenly.", show_default=str(DEFAULT_MAX_CALIBRATION)),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(help=f"Version of ONNX's operators, from {LOWEST_OPSET} on.", show_default=str(DEFAULT_OPSET)),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in the folder.")] = False,
) -> None:
    """
    Export a model for ONNX Runtime, OpenVINO or torch.export, and compare the file with the model.

    Nothing is kept if the file computes something else. export.json in the folder has the comparison.
    """
    if format != "onnx":
        refuse_options({"opset": opset}, f": its operators are those of ONNX, not of {format} files.")
    if calibration is None:
        refuse_options({"max-calibration": max_calibration}, " is about photos: name them with --calibration.")
    max_calibration = max_calibration or DEFAULT_MAX_CALIBRATION
    only_size = None if size is None else parse_pair(size, int, "--size")
    opset = DEFAULT_OPSET if opset is None else opset
    settings = ExportSettings(format, precision, include_preprocessing, include_argmax, only_size, opset)
    output = output or Path("runs/export") / f"{format}-{precision}"
    check_output(output, overwrite)
    find_photos(calibration, max_calibration, settings)
    location = locate_source(model)
    announce("Loading the model")

    from ..export import export_model

    report = export_model(
        location,
        output,
        format,
        precision,
        include_preprocessing=include_preprocessing,
        include_argmax=include_argmax,
        size=only_size,
        calibration=calibration,
        max_calibration=max_calibration,
        opset=opset,
        overwrite=overwrite,
        on_step=announce,
    )
    _describe(report)


def _describe(report: "ExportReport") -> None:
    settings, parity = report.settings, report.parity
    echo("Compared with the model in PyTorch, float32:")
    for one in parity.comparisons:
        difference = "" if one.logit_difference is None else f"  largest logit difference {one.logit_difference:.2g}"
        size = f"{one.size[0]}×{one.size[1]}"
        echo(f"  {one.picture:<24} {size:>10}  equal labels {one.equal_labels:8.3%}{difference}")
    echo(f"{settings.file} takes {settings.input_name} and gives {settings.output_name}. It is in {report.folder}")
    if settings.include_preprocessing or settings.include_argmax:
        echo(f"What it takes and gives in detail: {report.folder / 'export.json'}")
    else:
        echo(f"Next: cgrseg predict PHOTO --model {report.folder}")
