# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg convert`."""

from pathlib import Path
from typing import Annotated

import typer

from ..pretrained.locating import locate_model
from ..utils.messages import echo
from .data_options import ClassNamesOption, DatasetOption, announce, check_names, refuse_options

_CHECKPOINT_SUFFIX = ".pth"


def convert(
    source: Annotated[
        str,
        typer.Argument(help="Checkpoint file of the authors' code; or the folder or Hugging Face Hub id of a model."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the model; or checkpoint file to write.", show_default="runs/convert/NAME"
        ),
    ] = None,
    dataset: DatasetOption = None,
    class_names: ClassNamesOption = None,
    ema: Annotated[bool, typer.Option("--ema", help="Use the averaged weights of mmcv's EMA hook.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """
    Convert a checkpoint of the authors' code (mmsegmentation 0.27) to a model's folder, or a model to a checkpoint.

    All numbers stay as they are. The classes' names come from the checkpoint, or from --dataset or --class-names.
    """
    if dataset is not None and class_names is not None:
        raise typer.BadParameter("--dataset and --class-names both name the classes: pass one of them.")
    if Path(source).is_file():
        _convert_checkpoint(
            source, output or Path("runs/convert") / Path(source).stem, dataset, class_names, ema, overwrite
        )
        return
    if Path(source).suffix in (_CHECKPOINT_SUFFIX, ".pt", ".bin", ".safetensors"):
        raise typer.BadParameter(f"There is no checkpoint {source}.")
    of_checkpoints = {"dataset": dataset or None, "class-names": class_names or None, "ema": ema or None}
    refuse_options(of_checkpoints, f": these are for checkpoint files, and {source} is a model.")
    _convert_model(source, output, overwrite)


def _convert_checkpoint(
    source: str, target: Path, dataset: str | None, class_names: str | None, ema: bool, overwrite: bool
) -> None:
    _check_free(target, overwrite, is_folder=True)
    check_names(dataset, class_names)
    announce("Reading the checkpoint")
    from ..conversion.folders import checkpoint_to_folder
    from ..data import get_description, read_class_names

    id2label = None
    if class_names is not None:
        id2label = read_class_names(class_names)
    elif dataset is not None:
        id2label = get_description(dataset).id2label
    model = checkpoint_to_folder(source, target, id2label, ema)
    echo(
        f"{model.num_parameters():,} parameters, {model.config.num_labels} classes "
        f"({', '.join(list(model.config.id2label.values())[:3])}, ...). The model is in {target}"
    )
    echo(f"Next: cgrseg predict PHOTO --model {target}")


def _convert_model(source: str, output: Path | None, overwrite: bool) -> None:
    target = output or Path("runs/convert") / f"{Path(source).resolve().name}{_CHECKPOINT_SUFFIX}"
    if target.suffix != _CHECKPOINT_SUFFIX:
        raise typer.BadParameter(f"--output {target}: the checkpoint's name must end with {_CHECKPOINT_SUFFIX}.")
    _check_free(target, overwrite, is_folder=False)
    location = locate_model(source)
    announce("Loading the model")
    from ..conversion.folders import folder_to_checkpoint

    num_tensors = folder_to_checkpoint(location, target)
    echo(f"{num_tensors} tensors under the names of the authors' code are in {target}")
    echo(f"Next: cgrseg convert {target} -o FOLDER converts it back")


def _check_free(target: Path, overwrite: bool, is_folder: bool) -> None:
    if target.exists() and target.is_dir() != is_folder:
        kinds = ("file", "folder") if is_folder else ("folder", "file")
        raise typer.BadParameter(f"--output {target} is a {kinds[0]}: name a {kinds[1]}.")
    taken = any(target.iterdir()) if target.is_dir() else target.exists()
    if taken and not overwrite:
        raise typer.BadParameter(f"{target} exists: name another --output, or pass --overwrite.")
