# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Images and annotations as columns of a table: metadata files, parquet files, saved data sets and the Hub."""

import contextlib
import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    Image,
    IterableDataset,
    Value,
    get_dataset_split_names,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub import constants
from huggingface_hub.errors import RepositoryNotFoundError
from PIL import Image as PILImage

from ..model.image_reading_cgrseg import UnreadableImageError, open_image
from ..pretrained.locating import ask_hub
from ..utils.messages import did_you_mean
from .layouts import SPLIT_NAMES, SplitNotFoundError, split_names

# A picture of one channel may hold class ids.
ANNOTATION_MODES = ("1", "L", "P", "I", "I;16", "I;16B")

_IMAGE_NAMES = ("image", "images", "img", "photo", "picture", "input", "input_image", "pixel_values")
_ANNOTATION_NAMES = (
    *("annotation", "annotations", "label", "labels", "mask", "masks", "label_map", "semantic_mask", "semantic_map"),
    *("segmentation", "segmentation_map", "segmentation_mask", "semantic_segmentation", "ground_truth", "gt"),
)
_PARQUET_BRANCH = "refs/convert/parquet"
_MAX_SHARDS = 64
# How rows of streamed data sets name their files: on the Hub, perhaps in an archive there. Whoever made a table may
# name any other address, and this computer would ask it.
_FOLLOWED = ("hf", "file", "zip", "tar", "gzip", "bz2", "xz", "lzma", "zstd", "lz4")
_METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


@dataclass
class Table:
    """Rows with pictures in columns of any name, where they were found, and whether they are those of a split alone."""

    rows: Dataset | IterableDataset
    layout: str
    has_splits: bool = True


def find_table(folder: Path, split: str, streaming: bool) -> Table | None:
    """
    Open the table that a folder holds: a data set that was saved to disk, pictures with a metadata file, or parquet.

    Returns:
        `Table`, or None if the folder holds none.

    Raises:
        SplitNotFoundError: If there is a table, but not of this split.
    """
    return _find_saved(folder, split) or _find_metadata(folder, split) or _find_parquet(folder, split, streaming)


def has_other_metadata(folder: Path) -> bool:
    """Whether the folder's metadata files do not name an annotation beside each image: they are about other things."""
    files = [path for name in _METADATA_FILES for path in (folder / name, *folder.glob(f"*/{name}")) if path.is_file()]
    for path in files:
        if path.suffix == ".parquet":
            return False
        with path.open(encoding="utf-8", errors="replace") as file:
            if file.readline().count("file_name") > 1:
                return False
    return bool(files)


def open_hub(repo_id: str, split: str, streaming: bool) -> Table:
    """
    Open a data set on the Hugging Face Hub.

    Raises:
        SplitNotFoundError: If it has not this split.
        ValueError: If there is no such data set, or it cannot be reached or loaded.
    """
    revision = None
    if "/" not in repo_id and not constants.HF_HUB_OFFLINE:
        _check_name(repo_id)
    try:
        try:
            available = get_dataset_split_names(repo_id)
        except RuntimeError as error:
            if "script" not in str(error):
                raise
            # Scripts run no more, but the Hub converts most data sets that have one.
            revision = _PARQUET_BRANCH
            available = get_dataset_split_names(repo_id, revision=revision)
        name = _choose_split(available, split, repo_id)
        rows = load_dataset(repo_id, split=name, revision=revision, streaming=streaming)
    except DatasetNotFoundError as error:
        raise ValueError(
            f"{repo_id} is neither a folder here nor a data set on the Hugging Face Hub that can be reached ({error}). "
            "Check the spelling and the connection; for private data sets log in by `hf auth login`."
        ) from error
    except SplitNotFoundError:
        raise
    except OSError as error:  # what is about the connection
        raise ValueError(
            f"{repo_id} is no folder here, and the Hugging Face Hub cannot be reached ({error}). Check the connection, "
            "or download the data set and name its folder."
        ) from error
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"The data set {repo_id} on the Hugging Face Hub cannot be loaded: {error} Download the images and "
            "annotations and name their folder."
        ) from error
    branch = "" if revision is None else f", branch {revision}"
    return Table(rows, f"Hugging Face Hub{branch}, split {name}")


def _check_name(name: str) -> None:
    """Refuse a name without an owner, often a mistyped folder, if the Hub does not answer: datasets tries for long."""
    with contextlib.suppress(RepositoryNotFoundError):  # which is told with the others
        if reason := ask_hub(name, "dataset"):
            raise ValueError(
                f"There is no folder {name!r}, and the Hugging Face Hub cannot be asked for a data set of that name "
                f"({reason}): check the spelling, or the connection."
            )


def select_pairs(
    table: Table, image_column: str | None, annotation_column: str | None, streaming: bool, source: str
) -> Dataset | IterableDataset:
    """
    Reduce a table to the columns `image`, `annotation` and `name`, the first two not decoded.

    Raises:
        ValueError: If it is unclear which columns hold images and annotations.
    """
    rows = table.rows
    image, annotation = _find_columns(rows, image_column, annotation_column, source)
    rows = rows.select_columns([image, annotation])
    for column in (image, annotation):
        rows = rows.cast_column(column, Image(decode=False))
    if isinstance(rows, IterableDataset):
        return rows.map(
            functools.partial(_make_pair, image=image, annotation=annotation),
            with_indices=True,
            remove_columns=[image, annotation],
            features=Features({**undecoded_features(), "name": Value("string")}),
        )
    rows = rows.rename_columns({image: "image", annotation: "annotation"})
    paths = rows.select_columns(["image"]).flatten()["image.path"][:]
    rows = rows.add_column("name", [_name(path, index) for index, path in enumerate(paths)])
    return stream(rows) if streaming else rows


def undecoded_features() -> Features:
    """The two columns of pictures as their files."""
    return Features({"image": Image(decode=False), "annotation": Image(decode=False)})


def stream(rows: Dataset) -> IterableDataset:
    """The same rows in the same order, one after the other."""
    return rows.to_iterable_dataset(num_shards=max(1, min(_MAX_SHARDS, len(rows))))


def open_image_value(value: dict[str, Any] | None) -> PILImage.Image:
    """
    Decode the image of a row from its bytes or its path.

    Raises:
        OSError: If there is no image, or its file cannot be opened.
        UnreadableImageError: If it is not an image, or is damaged.
    """
    if value is None:
        raise OSError("the row has none")
    if value["bytes"] is not None:
        return open_image(io.BytesIO(value["bytes"]))
    if value["path"] is None:
        raise OSError("it has neither a path nor bytes")
    if "://" not in value["path"]:
        return open_image(value["path"])
    _check_address(value["path"])
    with fsspec.open(value["path"], "rb") as file:
        return open_image(io.BytesIO(file.read()))


def _check_address(address: str) -> None:
    """Refuse a picture that lies elsewhere than in the data set."""
    for part in address.split("::"):  # fsspec's chains: a file in an archive, and where that lies
        protocol, has_address, _ = part.partition("://")
        if protocol not in _FOLLOWED and (has_address or protocol in fsspec.available_protocols()):
            raise OSError(
                f"{address} is an address of the kind {protocol!r}, which is not followed: download the picture, and "
                "name the file"
            )


def _find_saved(folder: Path, split: str) -> Table | None:
    """What `save_to_disk` wrote."""
    if (folder / "dataset_dict.json").is_file():
        tables = load_from_disk(folder)
        name = _choose_split(list(tables), split, str(folder))
        return Table(tables[name], f"saved data set, split {name}")
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return Table(load_from_disk(folder), "saved data set, without splits", has_splits=False)
    saved = {path.parent.name: path.parent for path in folder.glob("*/state.json")}
    if not saved:
        return None
    name = _choose_split(list(saved), split, str(folder))
    return Table(load_from_disk(saved[name]), f"saved data set {name}")


def _find_metadata(folder: Path, split: str) -> Table | None:
    """Pictures and a file that tells for each image which annotation it has."""
    if any((folder / name).is_file() for name in _METADATA_FILES):
        tables = _load_imagefolder(folder)
        if list(tables) == ["train"]:
            return Table(tables["train"], "metadata file, without splits", has_splits=False)
        # datasets reads it for none of them, and takes the folders' names for classes.
        raise ValueError(
            f"The metadata file in {folder} lies beside the folders of the splits {', '.join(tables)}: put one into "
            "each of them, which names files from there on."
        )
    folders = {path.parent.name: path.parent for name in _METADATA_FILES for path in folder.glob(f"*/{name}")}
    if not folders:
        return None
    name = _choose_split(list(folders), split, str(folder))
    tables = _load_imagefolder(folders[name])
    if len(tables) > 1:
        raise ValueError(
            f"{folders[name]} is the split {name!r} by its name, but it holds folders of the splits "
            f"{', '.join(tables)} again: rename them."
        )
    return Table(*tables.values(), f"metadata file in {name}")


def _load_imagefolder(folder: Path) -> DatasetDict:
    try:
        return load_dataset("imagefolder", data_dir=str(folder))
    except Exception as error:  # as many kinds as there are ways to write the file wrong
        raise ValueError(
            f"The metadata file in {folder} cannot be used ({error.__cause__ or error}). Each line names an image and "
            'its annotation: {"file_name": "images/a.jpg", "annotation_file_name": "annotations/a.png"}.'
        ) from error


def _find_parquet(folder: Path, split: str, streaming: bool) -> Table | None:
    """Parquet files, named or put in folders by split."""
    files = sorted(file for file in (*folder.glob("*.parquet"), *folder.glob("*/*.parquet")) if file.name[0] != ".")
    by_split: dict[str, list[str]] = {}
    for file in files:
        # train.parquet, train-00000-of-00004.parquet, train_0.parquet, or any name in a folder train
        name = next((part for part in (_first_word(file.stem), file.parent.name) if _is_split(part, split)), None)
        by_split.setdefault(name, []).append(str(file))
    if not files:
        return None
    has_splits = set(by_split) != {None}
    name = _choose_split([name for name in by_split if name], split, str(folder)) if has_splits else None
    rows = load_dataset("parquet", data_files={"train": by_split[name]}, split="train", streaming=streaming)
    return Table(rows, f"parquet files {name}" if has_splits else "parquet files, without splits", has_splits)


def _first_word(stem: str) -> str:
    return stem.split("-")[0].split("_")[0].split(".")[0]


def _is_split(name: str, split: str) -> bool:
    return name == split or any(name in names for names in SPLIT_NAMES.values())


def _choose_split(available: list[str], split: str, source: str) -> str:
    """What a source calls a split."""
    for name in split_names(split):
        if name in available:
            return name
    raise SplitNotFoundError(
        f"{source} has no split {split!r}, but {', '.join(available) or 'none'}: name one of them."
    )


def _make_pair(row: dict[str, Any], index: int, image: str, annotation: str) -> dict[str, Any]:
    path = row[image] and row[image]["path"]
    return {"image": row[image], "annotation": row[annotation], "name": _name(path, index)}


def _name(path: str | None, index: int) -> str:
    """What to call a row: its image's path within an archive, its file's name, or else the row's number."""
    if not path:
        return str(index)
    return Path(path).name if Path(path).is_absolute() or "://" in path else path


def _find_columns(
    rows: Dataset | IterableDataset, image_column: str | None, annotation_column: str | None, source: str
) -> tuple[str, str]:
    """The columns of images and annotations: by the given names, by usual names, or by what the first row holds."""
    features = rows.features
    if features is None:
        raise ValueError(f"{source} does not tell its columns while it is streamed: load it without streaming.")
    given = {"image_column": image_column, "annotation_column": annotation_column}
    for argument, column in given.items():
        if column is not None and not (column in features and _may_be_picture(features[column], is_given=True)):
            raise ValueError(_describe_columns(features, source, argument, column))
    free = [name for name, feature in features.items() if _may_be_picture(feature) and name not in given.values()]
    images = [image_column] if image_column else _with_usual_name(free, _IMAGE_NAMES)
    annotations = [annotation_column] if annotation_column else _with_usual_name(free, _ANNOTATION_NAMES)
    if len(images) != 1 or len(annotations) != 1:
        has_one_channel = _look_at_channels(rows, free)
        if len(annotations) != 1:
            candidates = annotations or [name for name in free if images != [name]]
            annotations = [name for name in candidates if has_one_channel.get(name)]
        if len(images) != 1:
            candidates = images or [name for name in free if annotations != [name]]
            images = [name for name in candidates if has_one_channel.get(name) is False]
    if len(images) != 1 or len(annotations) != 1:
        raise ValueError(_describe_columns(features, source))
    return images[0], annotations[0]


def _with_usual_name(columns: list[str], names: tuple[str, ...]) -> list[str]:
    return [column for column in columns if column.lower() in names]


def _may_be_picture(feature: Any, is_given: bool = False) -> bool:
    if isinstance(feature, dict):
        return bool(feature) and feature.keys() <= {"bytes", "path"}
    return isinstance(feature, Image) or (is_given and feature == Value("binary"))


def _look_at_channels(rows: Dataset | IterableDataset, columns: list[str]) -> dict[str, bool]:
    """For columns whose first picture can be read, whether it has one channel."""
    if not columns:
        return {}
    rows = rows.select_columns(columns)
    for column in columns:
        rows = rows.cast_column(column, Image(decode=False))
    has_one_channel = {}
    for column, value in next(iter(rows), {}).items():
        with contextlib.suppress(OSError, UnreadableImageError):
            has_one_channel[column] = open_image_value(value).mode in ANNOTATION_MODES
    return has_one_channel


def _describe_columns(features: Features, source: str, argument: str | None = None, column: str | None = None) -> str:
    """Why the columns are not found, and which there are."""
    listed = ", ".join(f"{name} ({_describe_feature(feature)})" for name, feature in features.items())
    if argument is None:
        return (
            f"It is unclear which columns of {source} hold the images and which the annotations, pictures of one "
            f"channel: name them by image_column and annotation_column (--image-column, --annotation-column). "
            f"There are {listed}."
        )
    problem = "holds no pictures" if column in features else "does not exist"
    option = f"--{argument.replace('_', '-')}"
    hint = "" if column in features else did_you_mean(column, features)
    return f"{argument}={column!r} ({option}): this column of {source} {problem}.{hint} There are {listed}."


def _describe_feature(feature: Any) -> str:
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__
