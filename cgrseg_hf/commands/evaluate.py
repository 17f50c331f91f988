# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg evaluate`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..engines.export_settings import is_export
from ..engines.names import EngineName
from ..pretrained.locating import SHIPPED, expand_shipped, find_fetched, locate_model
from ..utils.messages import echo
from .data_options import (
    AnnotationColumnOption,
    ClassNamesOption,
    DatasetOption,
    DeviceOption,
    ImageColumnOption,
    LabelIdsOption,
    PrecisionOption,
    ReduceLabelsOption,
    TrustOption,
    announce,
    check_output_folder,
    check_source,
    override_size,
    parse_numbers,
    parse_pair,
    refuse_options,
)

if TYPE_CHECKING:
    import torch

    from ..data import SegmentationData
    from ..engines import Engine
    from ..evaluation import EvaluationProtocol, EvaluationResult


def evaluate(
    model: Annotated[
        str, typer.Argument(help="Folder of the model or of an export, a Hugging Face Hub id, or shipped.")
    ] = SHIPPED,
    data: Annotated[
        str | None, typer.Option(help="Folder or Hub id of the data set.", show_default="the known data set's Hub id")
    ] = None,
    dataset: DatasetOption = None,
    split: Annotated[str, typer.Option(help="Which images to evaluate on.")] = "validation",
    label_ids: LabelIdsOption = "auto",
    reduce_labels: ReduceLabelsOption = None,
    image_column: ImageColumnOption = None,
    annotation_column: AnnotationColumnOption = None,
    class_names: ClassNamesOption = None,
    streaming: Annotated[bool, typer.Option("--streaming", help="Read row by row, without a download first.")] = False,
    protocol: Annotated[
        Literal["default", "reference"],
        typer.Option(help="Resize logits to the image in one step, or in the two of the authors' released code."),
    ] = "default",
    scales: Annotated[
        str, typer.Option(help="Factors on the image's size, such as '0.75 1.0 1.25', whose scores are averaged.")
    ] = "1.0",
    flip: Annotated[bool, typer.Option("--flip", help="Average with the mirrored image too.")] = False,
    slide: Annotated[
        bool, typer.Option("--slide", help="Run windows over the image, not the image as a whole.")
    ] = False,
    crop_size: Annotated[
        str | None,
        typer.Option(help="Size of a window in pixels: one number, or height and width.", show_default="512"),
    ] = None,
    stride: Annotated[
        str | None,
        typer.Option(
            help="Step of the windows in pixels: one number, or down and across.",
            show_default="two thirds of --crop-size",
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Shorter side in pixels that images are resized to, as the model has it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Evaluate on so many images only.")] = None,
    worst: Annotated[int, typer.Option(min=0, help="Draw so many of the worst images.")] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            callback=check_output_folder,
            help="Folder of the report.",
            show_default="runs/evaluate/<model>",
        ),
    ] = None,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read images ahead.")] = 2,
    engine: Annotated[
        EngineName | None,
        typer.Option(help="What computes the network.", show_default="the model itself, or the export's engine"),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    trust_remote_code: TrustOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """
    Score a model on a data set: mean IoU, each class, confusions, and the worst images.

    On several GPUs: accelerate launch -m cgrseg_hf evaluate with the same arguments.
    """
    crop, step = _parse_windows(slide, crop_size, stride)
    factors = parse_numbers(scales, float, "--scales")
    location = locate_model(model)
    check_source(data, dataset, label_ids, reduce_labels, class_names)
    if is_export(location):
        refuse_options({"precision": precision}, f": {model} was exported in a precision of its own; leave it out.")
    if not as_json:
        announce("Loading the model and the data")

    from transformers import AutoConfig, AutoImageProcessor

    from ..data import load_data, read_class_names
    from ..evaluation import EvaluationProtocol, evaluate_model
    from ..utils.processes import make_accelerator

    try:
        how = EvaluationProtocol(tuple(factors), flip, slide, crop, step, reference=protocol == "reference")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    accelerator = make_accelerator()
    image_processor = AutoImageProcessor.from_pretrained(location)
    if size is not None:
        image_processor.size = override_size(image_processor.size, size)
    config = AutoConfig.from_pretrained(location)
    loaded = load_data(
        data,
        split,
        dataset,
        image_column=image_column,
        annotation_column=annotation_column,
        streaming=streaming,
        label_ids=label_ids,
        reduce_labels=reduce_labels,
        id2label=None if class_names is None else read_class_names(class_names),
        default_id2label=config.id2label,
        ignore_index=getattr(config, "semantic_loss_ignore_index", 255),
    )
    if accelerator.is_main_process:
        _report_data(loaded, how, config.id2label)
    result = evaluate_model(
        _open_network(location, engine, device, precision, trust_remote_code, accelerator.device),
        image_processor,
        loaded,
        how,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        reduce=lambda tensor: accelerator.reduce(tensor.to(accelerator.device), "sum"),
        limit=limit,
        num_workers=num_workers,
        keep_worst=worst,
        progress=accelerator.is_main_process,
    )
    if accelerator.is_main_process:
        extra = {"num_processes": accelerator.num_processes, "limit": limit, "size": dict(image_processor.size)}
        _report(result, output, model, location, {**extra, "engine": engine}, as_json)
    accelerator.end_training()


def _parse_windows(slide: bool, crop_size: str | None, stride: str | None) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes and steps of windows, down and across."""
    if not slide:
        refuse_options({"crop-size": crop_size, "stride": stride}, ": windows come with --slide.")
    crop = parse_pair(crop_size or "512", int, "--crop-size")
    if stride is not None:
        return crop, parse_pair(stride, int, "--stride")
    return crop, (max(2 * crop[0] // 3, 1), max(2 * crop[1] // 3, 1))


def _report_data(data: "SegmentationData", protocol: "EvaluationProtocol", id2label: Mapping[int, str]) -> None:
    """Print to the standard error what is evaluated, and warnings about it."""
    echo(f"Data: {data.description}", err=True)
    for warning in [*data.left_out, *_compare_names(id2label, data.id2label)]:
        echo(f"Warning: {warning}", err=True)
    echo(f"Ids: {data.label_mapping.describe()}\nProtocol: {protocol.describe()}", err=True)


def _report(
    result: "EvaluationResult", output: Path | None, model: str, location: str, extra: dict[str, Any], as_json: bool
) -> None:
    """Write the report, and print the scores."""
    from ..evaluation import per_class_table, write_report

    folder = output or Path("runs/evaluate") / _name(expand_shipped(model))
    model_folder = Path(location) if Path(location).is_dir() else find_fetched(location)
    report = write_report(result, folder, model=model, model_folder=model_folder, extra=extra)
    echo(report.read_text(encoding="utf-8") if as_json else per_class_table(result), nl=not as_json)
    echo(f"{result.num_images} images in {result.seconds:.0f} s. The report is in {report.parent}", err=as_json)


def _open_network(
    location: str,
    engine: EngineName | None,
    device: str | None,
    precision: str | None,
    trust_remote_code: bool,
    default_device: "torch.device",
) -> "Engine":
    """Open the engine that was asked for or that an export needs, or else the model itself."""
    import torch

    from ..engines import PlainEngine
    from ..engines.engine import resolve_device
    from ..export.choosing import make_engine
    from ..pretrained.loading import load_model
    from ..utils.processes import AUTOCAST_TYPES

    if engine is not None or is_export(location):
        return make_engine(location, engine or "auto", device, precision, trust_remote_code=trust_remote_code)
    model = load_model(location, dtype=torch.float32).to(resolve_device("torch", device or default_device))
    return PlainEngine(model.eval(), AUTOCAST_TYPES[precision or "float32"])


def _compare_names(of_model: Mapping[int, str], of_data: Mapping[int, str]) -> list[str]:
    """Warn where model and data name the same number of classes differently."""
    if len(of_model) != len(of_data) or all(re.fullmatch(r"LABEL_\d+", name) for name in of_model.values()):
        return []
    different = [class_id for class_id in of_data if of_model.get(class_id) != of_data[class_id]]
    if not different:
        return []
    shown = ", ".join(f"{one} is {of_model.get(one)!r} and {of_data[one]!r}" for one in different[:3])
    return [
        f"{len(different)} of {len(of_data)} classes have different names in model and data "
        f"({shown}{', …' if len(different) > 3 else ''}): if their order differs too, the scores mean nothing."
    ]


def _name(model: str) -> str:
    """Name the folder of a model's report: by the model's folder, and by the run's for one of a run's models."""
    path = Path(model).resolve() if Path(model).exists() else Path(model)
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return f"{run.name}-{path.name}" if path.name in ("best", "last") or run != path.parent else path.name
