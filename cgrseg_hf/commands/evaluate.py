# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg evaluate`."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..engines.export_settings import is_export
from ..pretrained.locating import SHIPPED, expand_shipped, find_fetched, locate_model
from ..utils.messages import echo
from .data_options import (
    AnnotationColumnOption,
    ClassNamesOption,
    DatasetOption,
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
        typer.Option(
            help="How logits come to the image's size: in one step, or in the two of the authors' released code.",
        ),
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
        Path | None, typer.Option("--output", "-o", help="Folder of the report.", show_default="runs/evaluate/<model>")
    ] = None,
    num_workers: Annotated[int, typer.Option(min=0, help="Processes that read images ahead.")] = 2,
    precision: PrecisionOption = None,
    trust_remote_code: TrustOption = False,
    check_with: Annotated[
        str | None,
        typer.Option(help="Compare with evaluate's own metric on the same maps: mean_iou, or the folder of a copy."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """
    Score a model on a data set: mean IoU, each class, confusions, and the worst images.

    On several GPUs: accelerate launch -m cgrseg_hf evaluate with the same arguments.
    """
    if not slide:
        refuse_options({"crop-size": crop_size, "stride": stride}, ": windows come with --slide.")
    scale_list = parse_numbers(scales, float, "--scales")
    crop = parse_pair(crop_size or "512", int, "--crop-size")
    step = tuple(max(2 * length // 3, 1) for length in crop)
    if stride is not None:
        step = parse_pair(stride, int, "--stride")
    if output is not None:
        check_output_folder(output)
    location = locate_model(model)
    check_source(data, dataset, label_ids, reduce_labels, class_names)
    if is_export(location):
        refuse_options({"precision": precision}, f": {model} was exported in a precision of its own; leave it out.")
    if not as_json:
        announce("Loading the model and the data")

    from ..evaluation import EvaluationProtocol

    try:
        how = EvaluationProtocol(tuple(scale_list), flip, slide, crop, step, reference=protocol == "reference")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error

    import torch
    from transformers import AutoConfig, AutoImageProcessor

    from ..data import load_data, read_class_names
    from ..evaluation import evaluate_model, per_class_table, write_report
    from ..export import ExportedModel
    from ..pretrained.loading import load_model
    from ..utils.processes import AUTOCAST_TYPES, make_accelerator

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
        for line in (
            f"Data: {loaded.description}",
            *(f"Warning: {message}" for message in loaded.left_out),
            f"Ids: {loaded.label_mapping.describe()}",
            f"Protocol: {how.describe()}",
            *_compare_names(config.id2label, loaded.id2label),
        ):
            echo(line, err=True)
    if is_export(location):
        network = ExportedModel.from_pretrained(location, trust_remote_code=trust_remote_code)
    else:
        network = load_model(location, dtype=torch.float32).to(accelerator.device)
    result = evaluate_model(
        network,
        image_processor,
        loaded,
        how,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        reduce=lambda tensor: accelerator.reduce(tensor.to(accelerator.device), "sum"),
        limit=limit,
        autocast=AUTOCAST_TYPES[precision or "float32"],
        num_workers=num_workers,
        keep_worst=worst,
        progress=accelerator.is_main_process,
        check_with=check_with,
    )
    if accelerator.is_main_process:
        name = _name(expand_shipped(model))
        extra = {"num_processes": accelerator.num_processes, "limit": limit, "size": dict(image_processor.size)}
        folder = Path(location) if Path(location).is_dir() else find_fetched(location)
        report = write_report(
            result, output or Path("runs/evaluate") / name, model=model, model_folder=folder, extra=extra
        )
        if as_json:
            echo(report.read_text(encoding="utf-8"), nl=False)
        else:
            echo(per_class_table(result))
        echo(f"{result.num_images} images in {result.seconds:.0f} s. The report is in {report.parent}", err=as_json)
    accelerator.end_training()


def _compare_names(of_model: dict[int, str], of_data: dict[int, str]) -> list[str]:
    """A warning where model and data name the same number of classes differently."""
    if len(of_model) != len(of_data) or all(re.fullmatch(r"LABEL_\d+", name) for name in of_model.values()):
        return []
    different = [class_id for class_id in of_data if of_model.get(class_id) != of_data[class_id]]
    if not different:
        return []
    shown = ", ".join(f"{one} is {of_model.get(one)!r} and {of_data[one]!r}" for one in different[:3])
    return [
        f"Warning: {len(different)} of {len(of_data)} classes have different names in model and data "
        f"({shown}{', …' if len(different) > 3 else ''}): if their order differs too, the scores mean nothing."
    ]


def _name(model: str) -> str:
    """What to call a model's report: its folder, with the run's where it is one of a run's models."""
    path = Path(model).resolve() if Path(model).exists() else Path(model)
    run = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return f"{run.name}-{path.name}" if path.name in ("best", "last") or run != path.parent else path.name
