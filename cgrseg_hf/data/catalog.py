# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The data sets known by name: their classes, colours and the conventions by which their files hold ids."""

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..utils.messages import did_you_mean
from .label_mapping import LabelMapping

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_LABELS = Path(__file__).parent / "labels"
_IGNORED = 255
_CITYSCAPES_CLASSES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


@dataclass(frozen=True)
class DatasetDescription:
    """
    What is known of a data set beyond its files.

    Args:
        name (`str`):
            One of `DATASET_NAMES`.
        id2label (`dict[int, str]`):
            Names of the classes by train id, from 0 on.
        palette (`list[tuple[int, int, int]]`):
            Usual colours of the classes, (red, green, blue) by train id. Two classes may have the same.
        label_mappings (`dict[str, LabelMapping]`):
            How ids in files become train ids, by the name of the convention; the first is the usual one.
        hub_id (`str`, *optional*):
            A copy on the Hugging Face Hub that loads without a script.
        is_ambiguous (`bool`):
            Whether files of two conventions hold the same ids with other meanings, so that one must be named.
    """

    name: str
    id2label: dict[int, str]
    palette: list[tuple[int, int, int]]
    label_mappings: dict[str, LabelMapping]
    hub_id: str | None = None
    is_ambiguous: bool = False


@functools.cache
def get_description(name: str) -> DatasetDescription:
    """
    Describe a data set.

    Raises:
        ValueError: If the name is none of `DATASET_NAMES`.
    """
    if name not in _LABEL_MAPPINGS:
        hint = did_you_mean(name.lower().replace("_", "-"), DATASET_NAMES)
        raise ValueError(
            f"No data set is named {name!r}.{hint} Known are {', '.join(DATASET_NAMES)}; for data of your own give the "
            "names of its classes instead."
        )
    files, make_label_mappings = _LABEL_MAPPINGS[name]
    return DatasetDescription(
        name=name,
        id2label={int(train): label for train, label in _read(f"{files}-id2label").items()},
        palette=[tuple(color) for color in _read(f"{files}-palette")],
        label_mappings=make_label_mappings(),
        hub_id=_HUB_IDS.get(name),
        is_ambiguous=name in _AMBIGUOUS,
    )


def find_source(
    source: str | Path | None, dataset: str | None = None, label_ids: str = "auto", reduce_labels: bool | None = None
) -> tuple[DatasetDescription | None, str | Path]:
    """
    What [`load_data`] is to load, as far as it can be told before anything is opened or asked.

    Returns:
        `tuple[DatasetDescription | None, str | Path]`: the known data set, and a folder or what can be a Hub id.

    Raises:
        ValueError: If there is no such data set or folder, or arguments contradict each other.
    """
    description = None if dataset is None else get_description(dataset)
    _check_label_ids(description, label_ids, reduce_labels)
    if source is None:
        source = None if description is None else description.hub_id
    if source is None:
        raise ValueError("No data: name a folder or the id of a data set on the Hugging Face Hub (--data).")
    folder = Path(source).expanduser()
    if not folder.is_dir() and (folder.exists() or not _HUB_ID.fullmatch(str(source))):
        problem = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"{source} {problem}: give a folder, or the id of a data set on the Hugging Face Hub.")
    return description, source


def _check_label_ids(description: DatasetDescription | None, label_ids: str, reduce_labels: bool | None) -> None:
    if label_ids == "auto":
        return
    if reduce_labels is not None:
        raise ValueError(
            f"label_ids={label_ids!r} (--label-ids) and reduce_labels={reduce_labels} (--reduce-labels) both say "
            "how ids are read: give one of them."
        )
    if description is None:
        raise ValueError(
            f"label_ids={label_ids!r} (--label-ids) is a convention of a known data set: name it by dataset "
            "(--dataset), or use reduce_labels (--reduce-labels)."
        )
    if label_ids not in description.label_mappings:
        known = ", ".join(["auto", *description.label_mappings])
        hint = did_you_mean(label_ids, description.label_mappings)
        raise ValueError(f"{description.name} has no label_ids (--label-ids) {label_ids!r}.{hint} Known are {known}.")


def find_palette(id2label: Mapping[int, str]) -> list[tuple[int, int, int]] | None:
    """The usual colours of classes that are those of a known data set, in its order; otherwise `None`."""
    descriptions = (get_description(name) for name in DATASET_NAMES)
    return next((list(known.palette) for known in descriptions if known.id2label == dict(id2label)), None)


def _read(file: str) -> Any:
    return json.loads((_LABELS / f"{file}.json").read_text(encoding="utf-8"))


def _read_raw_to_train(file: str) -> dict[int, int]:
    return {int(raw): train for raw, train in _read(f"{file}-raw-to-train").items()}


def _camvid() -> dict[str, LabelMapping]:
    # SegNet's files hold 11 where nothing was labelled; others put that first, at 0.
    return {
        "segnet": LabelMapping({**LabelMapping.identity(11).raw_to_train, 11: _IGNORED}),
        "void-first": LabelMapping.reduce_zero(11),
    }


def _cityscapes() -> dict[str, LabelMapping]:
    raw_to_train = {
        **dict.fromkeys([*range(34), _IGNORED], _IGNORED),
        **{raw: train for train, raw in enumerate(_CITYSCAPES_CLASSES)},
    }
    return {"train-ids": LabelMapping.identity(19), "raw": LabelMapping(raw_to_train)}


def _coco_stuff_164k() -> dict[str, LabelMapping]:
    return {
        "raw": LabelMapping(_read_raw_to_train("coco-stuff-164k")),
        "train-ids": LabelMapping.identity(171),
    }


def _coco_stuff_10k() -> dict[str, LabelMapping]:
    # Unlike the 164k set, 0 stands for unlabelled, in the raw files and in those that mmsegmentation converts.
    return {
        "raw": LabelMapping({**_read_raw_to_train("coco-stuff-10k"), _IGNORED: _IGNORED}).reduced(),
        "train-ids": LabelMapping.reduce_zero(171),
    }


def _pascal_context_60() -> dict[str, LabelMapping]:
    # Of the 459 classes of the raw files, those that are none of the 59 are background.
    raw_to_train = {**dict.fromkeys(range(460), 0), **_read_raw_to_train("pascal-context-60")}
    return {"train-ids": LabelMapping.identity(60), "raw": LabelMapping(raw_to_train)}


def _pascal_context_59() -> dict[str, LabelMapping]:
    return {convention: mapping.reduced() for convention, mapping in _pascal_context_60().items()}


_AMBIGUOUS = {"camvid"}
_HUB_IDS = {"ade20k": "sezer12138/ADE20k_Segementation"}
# For each data set, how its files in the folder `labels` begin, and what makes its conventions.
_LABEL_MAPPINGS: dict[str, tuple[str, Callable[[], dict[str, LabelMapping]]]] = {
    "ade20k": ("ade20k-150", lambda: {"raw": LabelMapping.reduce_zero(150)}),
    "camvid": ("camvid-11", _camvid),
    "cityscapes": ("cityscapes-19", _cityscapes),
    "coco-stuff-10k": ("coco-stuff-171", _coco_stuff_10k),
    "coco-stuff-164k": ("coco-stuff-171", _coco_stuff_164k),
    "pascal-context-59": ("pascal-context-59", _pascal_context_59),
    "pascal-context-60": ("pascal-context-60", _pascal_context_60),
    "voc": ("voc-21", lambda: {"train-ids": LabelMapping.identity(21)}),
}
DATASET_NAMES = tuple(_LABEL_MAPPINGS)
