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
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights of mmcv's EMA hook.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """
    Turn a checkpoint of the authors' code (mmsegmentation 0.27) into a model's folder, or a model into a checkpoint.

    All numbers stay as they are. The classes' names come from the checkpoint, or from --dataset or --class-names.
    """
    if dataset is not None and class_names is not None:
        raise typer.BadParameter("--dataset and --class-names both name the classes: give one of them.")
    if Path(source).is_file():
        target = output or Path("runs/convert") / Path(source).stem
        _check_free(target, overwrite, is_folder=True)
        check_names(dataset, class_names)
        announce("Reading the checkpoint")
        _from_checkpoint(source, target, dataset, class_names, ema)
        return
    if Path(source).suffix in (_CHECKPOINT_SUFFIX, ".pt", ".bin", ".safetensors"):
        raise typer.BadParameter(f"There is no checkpoint {source}.")
    of_checkpoints = {"dataset": dataset or None, "class-names": class_names or None, "ema": ema or None}
    refuse_options(of_checkpoints, f": these are for checkpoint files, and {source} is a model.")
    target = output or Path("runs/convert") / f"{Path(source).resolve().name}{_CHECKPOINT_SUFFIX}"
    if target.suffix != _CHECKPOINT_SUFFIX:
        raise typer.BadParameter(f"--output {target}: the checkpoint's name must end with {_CHECKPOINT_SUFFIX}.")
    _check_free(target, overwrite, is_folder=False)
    location = locate_model(source)
    announce("Loading the model")
    _to_checkpoint(location, target)


def _check_free(target: Path, overwrite: bool, is_folder: bool) -> None:
    if target.exists() and target.is_dir() != is_folder:
        kinds = ("file", "folder") if is_folder else ("folder", "file")
        raise typer.BadParameter(f"--output {target} is a {kinds[0]}: name a {kinds[1]}.")
    taken = any(target.iterdir()) if target.is_dir() else target.exists()
    if taken and not overwrite:
        raise typer.BadParameter(f"{target} is there already: name another --output, or give --overwrite.")


def _from_checkpoint(source: str, target: Path, dataset: str | None, class_names: str | None, ema: bool) -> None:
    from ..conversion import from_official
    from ..data.catalog import get_description
    from ..data.loading import read_class_names
    from ..model.image_processing_cgrseg import CGRSegImageProcessor

    names = None
    if class_names is not None:
        names = read_class_names(class_names)
    elif dataset is not None:
        names = get_description(dataset).id2label
    model = from_official(source, use_ema=ema)
    if names is not None:
        if len(names) != model.config.num_labels:
            raise ValueError(
                f"{source} has {model.config.num_labels} classes, but {class_names or dataset} names {len(names)}."
            )
        model.config.id2label = names
        model.config.label2id = {name: class_id for class_id, name in names.items()}
    model.save_pretrained(target)
    CGRSegImageProcessor(num_labels=model.config.num_labels).save_pretrained(target)
    echo(
        f"{model.num_parameters():,} parameters, {model.config.num_labels} classes "
        f"({', '.join(list(model.config.id2label.values())[:3])}, ...). The model is in {target}"
    )
    echo(f"Next: cgrseg predict PHOTO --model {target}")


def _to_checkpoint(source: str, target: Path) -> None:
    import torch

    from ..conversion import to_official
    from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
    from ..pretrained.loading import load_model

    model = load_model(source, dtype="auto")
    if not isinstance(model, CGRSegForSemanticSegmentation):
        raise ValueError(f"{source} is a {type(model).__name__}: the authors' code knows CGRSeg alone.")
    state_dict = to_official(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    names = list(model.config.id2label.values())
    torch.save({"meta": {"CLASSES": names}, "state_dict": state_dict}, target)
    echo(f"{len(state_dict)} tensors under the names of the authors' code are in {target}")
    echo(f"Next: cgrseg convert {target} -o FOLDER goes back")
