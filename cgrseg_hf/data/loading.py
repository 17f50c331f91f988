# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Images and their annotations from folders, tables and the Hub, one way for all."""

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from PIL import Image

from ..model.image_reading_cgrseg import UnreadableImageError, find_orientation, to_photo, turn_as_seen
from ..utils.messages import one_line
from .catalog import DatasetDescription, find_source
from .label_mapping import LabelMapping, check_ignore_index
from .layouts import SplitNotFoundError, find_convention, find_file_pairs
from .tables import (
    ANNOTATION_MODES,
    find_table,
    has_other_metadata,
    open_hub,
    open_image_value,
    select_pairs,
    stream,
    undecoded_features,
)

logger = logging.getLogger(__name__)


@dataclass
class Example:
    """
    One pair.

    Args:
        name (`str`):
            The image's file, or the row's number.
        image (`PIL.Image.Image`):
            RGB, turned as its EXIF says.
        label_map (`numpy.ndarray` of shape `(height, width)`):
            Train ids of the image's pixels, and the ignored label.
    """

    name: str
    image: Image.Image
    label_map: np.ndarray


@dataclass
class SegmentationData:
    """
    The pairs of a split, and how to read them.

    Args:
        rows (`datasets.Dataset` or `datasets.IterableDataset`):
            The columns `image` and `annotation`, each a dictionary of `path` and `bytes` as the file is, and `name`.
        id2label (`dict[int, str]`):
            Names of the classes by train id, from 0 on.
        palette (`list[tuple[int, int, int]]`, *optional*):
            Colours of the classes, where the data set has its own.
        label_mapping ([`LabelMapping`]):
            How ids in the annotations become train ids.
        description (`str`):
            Where the pairs came from and how many there are.
        split (`str`, *optional*):
            The split that they are; None where the source has no splits and these are all its pairs.
        left_out (`list[str]`, *optional*):
            What files were left out for want of a counterpart.
    """

    rows: Dataset | IterableDataset
    id2label: dict[int, str]
    palette: list[tuple[int, int, int]] | None
    label_mapping: LabelMapping
    description: str
    split: str | None = None
    left_out: tuple[str, ...] = ()

    @property
    def ignore_index(self) -> int:
        """The label of pixels that count for nothing."""
        return self.label_mapping.ignore_index

    @property
    def num_labels(self) -> int:
        """Number of classes."""
        return len(self.id2label)

    def __len__(self) -> int:
        if isinstance(self.rows, IterableDataset):
            raise TypeError("Streamed data have no length: load them without streaming, or count steps.")
        return len(self.rows)

    def __bool__(self) -> bool:
        return True  # streamed data have no length to tell it by

    def read(self, row: Mapping[str, Any]) -> Example:
        """
        Decode a row and map its ids.

        Raises:
            ValueError: If a file cannot be read, the annotation does not fit the image, or has colours instead of ids
                or ids without a train id. The message names the files.
        """
        image, annotation = read_image(row), read_annotation(row)
        check_mode(annotation, row)
        check_sizes(image, annotation, row)
        return Example(row["name"], convert_image(image, row), self._map(annotation, row))

    def read_label_map(self, row: Mapping[str, Any]) -> np.ndarray:
        """The annotation of a row alone, with train ids, (height, width); errors as of `read`."""
        annotation = read_annotation(row)
        check_mode(annotation, row)
        return self._map(annotation, row)

    def _map(self, annotation: Image.Image, row: Mapping[str, Any]) -> np.ndarray:
        return self.label_mapping(np.asarray(annotation), describe_file(row, "annotation"))


def load_data(
    source: str | Path | None,
    split: str,
    dataset: str | None = None,
    *,
    image_column: str | None = None,
    annotation_column: str | None = None,
    streaming: bool = False,
    label_ids: str = "auto",
    reduce_labels: bool | None = None,
    id2label: Mapping[int, str] | None = None,
    default_id2label: Mapping[int, str] | None = None,
    ignore_index: int = 255,
) -> SegmentationData:
    """
    Find the images and annotations of a split.

    A folder may be laid out as `train/images` and `train/annotations` (or `masks`, `labels`) or the other way round,
    as ADE20K, COCO-Stuff, Pascal Context, VOC or Cityscapes are, without splits as `images` and `annotations`, or be a
    folder of pictures with `metadata.jsonl`, of parquet files or of `save_to_disk`. Pairs are sorted by name. Images
    and annotations without a counterpart are left out, and named by `left_out` of what is returned.

    Args:
        source (`str` or `Path`, *optional*):
            A folder, or the id of a data set on the Hugging Face Hub; by default the id that is known for `dataset`.
        split (`str`):
            "train", "validation" or "test"; what folders and Hub data sets usually call these is known.
        dataset (`str`, *optional*):
            One of `DATASET_NAMES`, which gives class names, colours and ids. Without it, the names come from
            `id2label`, or from `id2label.json` or `classes.txt`, one name a line, in the folder.
        image_column, annotation_column (`str`, *optional*):
            Columns of a table; by default found by their names and by what they hold.
        streaming (`bool`, *optional*, defaults to `False`):
            Whether to read one row after the other, without a download beforehand.
        label_ids (`str`, *optional*, defaults to `"auto"`):
            By which of the data set's conventions files hold ids, such as "raw" or "train-ids". "auto" goes by the
            files' names, and otherwise takes the data set's usual one.
        reduce_labels (`bool`, *optional*):
            Whether id 0 is ignored and all others are lowered by one, rather than taken as they are. By default as
            `label_ids` says, and for other data sets as they are.
        id2label (`Mapping[int, str]`, *optional*):
            Names of the classes by train id.
        default_id2label (`Mapping[int, str]`, *optional*):
            Names of the classes where nothing else tells them, such as a model's.
        ignore_index (`int`, *optional*, defaults to 255):
            The label of pixels that count for nothing.

    Raises:
        SplitNotFoundError: If the source is there, but has not this split.
        ValueError: If the source is not understood, the class names are missing, or arguments contradict each other.
    """
    description, source = find_source(source, dataset, label_ids, reduce_labels)
    folder = Path(source).expanduser()
    if folder.is_dir():
        rows, layout, has_splits, left_out = _open_folder(
            folder, split, dataset, label_ids, streaming, image_column, annotation_column
        )
    else:
        folder, has_splits, left_out = None, True, ()
        table = open_hub(str(source), split, streaming)
        rows, layout = select_pairs(table, image_column, annotation_column, streaming, str(source)), table.layout
    convention = None if description is None or label_ids != "auto" else _look_at_name(rows)
    for message in left_out:
        logger.info("%s", message)

    names = _find_names(source, folder, description, id2label, default_id2label)
    count = "streamed" if isinstance(rows, IterableDataset) else f"{len(rows)} pairs"
    return SegmentationData(
        rows=rows,
        id2label=names,
        palette=_find_palette(folder, description, len(names)),
        label_mapping=_choose_label_mapping(
            description, len(names), label_ids, reduce_labels, convention, ignore_index
        ),
        description=f"{source} ({layout}): {count}",
        split=split if has_splits else None,
        left_out=tuple(left_out),
    )


def read_image(row: Mapping[str, Any]) -> Image.Image:
    """The row's image as it is in the file, or a ValueError that names it."""
    return _read_image(row, "image")


def read_annotation(row: Mapping[str, Any]) -> Image.Image:
    """The row's annotation, turned as its EXIF says, or a ValueError that names it."""
    return turn_as_seen(_read_image(row, "annotation"))


def check_mode(annotation: Image.Image, row: Mapping[str, Any]) -> None:
    """Refuse annotations of colours."""
    if annotation.mode in ANNOTATION_MODES:
        return
    values = np.asarray(annotation)
    if annotation.mode in ("RGB", "RGBA", "LA") and _is_grey(values):
        remedy = "all its channels are equal: write the first one alone, image.getchannel(0), to a PNG"
    else:
        remedy = "look up each colour's class in the data set's palette and write the ids to a PNG of one channel"
    raise ValueError(
        f"{describe_file(row, 'annotation')} is a picture of mode {annotation.mode!r}, whose pixels are colours, not "
        f"class ids: {remedy}."
    )


def check_sizes(image: Image.Image, annotation: Image.Image, row: Mapping[str, Any]) -> None:
    """Refuse annotations of another size than the image has as a person sees it."""
    size = get_upright_size(image)
    if size == annotation.size:
        return
    remedy = "Check that they belong together, or resize the annotation by the nearest pixel."
    if image.size == annotation.size:
        remedy = "The image's EXIF turns it, but the annotation was drawn without: turn the annotation alike."
    raise ValueError(
        f"{describe_file(row, 'image')} is {size[0]}×{size[1]} pixels, but {describe_file(row, 'annotation')} "
        f"{annotation.size[0]}×{annotation.size[1]}: an annotation has a pixel for each of the image's. "
        f"{remedy}"
    )


def get_upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an image as a person sees it."""
    return image.size[::-1] if find_orientation(image) in (5, 6, 7, 8) else image.size


def convert_image(image: Image.Image, row: Mapping[str, Any]) -> Image.Image:
    """The row's image as a person sees it, in RGB, or a ValueError that names it."""
    try:
        return to_photo(image)
    except UnreadableImageError as error:
        raise _make_error(describe_file(row, "image"), error) from error


def describe_file(row: Mapping[str, Any], column: str) -> str:
    """What to call a row's image or annotation in a message, in one line."""
    return one_line((row[column] or {}).get("path") or f"the {column} of row {row['name']}")


def _read_image(row: Mapping[str, Any], column: str) -> Image.Image:
    try:
        return open_image_value(row[column])
    except (OSError, UnreadableImageError) as error:
        raise _make_error(describe_file(row, column), error) from error


def _make_error(name: str, error: OSError | UnreadableImageError) -> ValueError:
    reason = one_line(getattr(error, "reason", error)).rstrip(".")
    return ValueError(f"{name} cannot be read ({reason}): replace the file, or take the pair out.")


def _is_grey(values: np.ndarray) -> bool:
    colors = values[..., : 3 if values.shape[-1] > 2 else 1]
    return bool((colors == colors[..., :1]).all())


def _open_folder(
    folder: Path,
    split: str,
    dataset: str | None,
    label_ids: str,
    streaming: bool,
    image_column: str | None,
    annotation_column: str | None,
) -> tuple[Dataset | IterableDataset, str, bool, list[str]]:
    """A folder's rows, its layout, whether it has splits, and what was left out."""
    pairs = None
    if has_other_metadata(folder):
        with contextlib.suppress(SplitNotFoundError):
            pairs = find_file_pairs(folder, split, dataset, label_ids)
    table = find_table(folder, split, streaming) if pairs is None else None
    if table is not None:
        rows = select_pairs(table, image_column, annotation_column, streaming, str(folder))
        return rows, table.layout, table.has_splits, []
    pairs = pairs or find_file_pairs(folder, split, dataset, label_ids)
    if pairs is None:
        content = sorted(path.name for path in folder.iterdir())
        raise ValueError(
            f"{folder} is laid out in no known way: it holds {', '.join(content[:8]) or 'nothing'}"
            f"{', …' if len(content) > 8 else ''}. Put images into train/images and val/images, and annotations of the "
            "same names into train/annotations and val/annotations."
        )
    if image_column or annotation_column:
        raise ValueError(
            f"{folder} has files ({pairs.layout}), not columns: leave out image_column and annotation_column "
            "(--image-column, --annotation-column)."
        )
    files = {"image": [str(file) for file in pairs.images], "annotation": [str(file) for file in pairs.annotations]}
    rows = Dataset.from_dict(files, features=undecoded_features())
    rows = rows.add_column("name", [file.name for file in pairs.images])
    rows = stream(rows) if streaming else rows
    return rows, pairs.layout, pairs.has_splits, pairs.left_out


def _look_at_name(rows: Dataset | IterableDataset) -> str | None:
    """The convention that the first annotation's name tells."""
    annotation = next(iter(rows), {}).get("annotation") or {}
    return find_convention(Path(annotation.get("path") or "").stem)


def _choose_label_mapping(
    description: DatasetDescription | None,
    num_labels: int,
    label_ids: str,
    reduce_labels: bool | None,
    convention: str | None,
    ignore_index: int,
) -> LabelMapping:
    if reduce_labels is not None or description is None:
        make = LabelMapping.reduce_zero if reduce_labels else LabelMapping.identity
        return make(num_labels, ignore_index)
    check_ignore_index(num_labels, ignore_index)
    label_mappings = description.label_mappings
    if label_ids == "auto" and description.is_ambiguous:
        raise ValueError(
            f"The label maps of {description.name} come with two numberings that cannot be told apart: choose by "
            "label_ids (--label-ids). "
            + "; ".join(f"{name}: {mapping.describe()}" for name, mapping in label_mappings.items())
        )
    if label_ids == "auto":
        label_ids = convention if convention in label_mappings else next(iter(label_mappings))
    return label_mappings[label_ids].with_ignore_index(ignore_index)


def _find_names(
    source: str | Path,
    folder: Path | None,
    description: DatasetDescription | None,
    id2label: Mapping[int, str] | None,
    default_id2label: Mapping[int, str] | None,
) -> dict[int, str]:
    """Names of the classes: those given, the data set's, or those that lie beside the data."""
    if id2label is not None:
        names = _check_names(id2label, "id2label")
        if description is not None and len(names) != len(description.id2label):
            raise ValueError(
                f"id2label (--class-names) has {len(names)} classes, but {description.name} "
                f"{len(description.id2label)}: leave it out, or leave out dataset (--dataset) for classes of your own."
            )
        return names
    if description is not None:
        return dict(description.id2label)
    file = _download_names(str(source)) if folder is None else folder / "id2label.json"
    for candidate in (file, folder and folder / "classes.txt"):
        if candidate is not None and candidate.is_file():
            return read_class_names(candidate)
    if default_id2label is not None:
        return _check_names(default_id2label, "default_id2label")
    raise ValueError(
        f"The names of the classes in {source} are not known. Name the data set if it is a known one (dataset, "
        "--dataset), give id2label (a file by --class-names), or put a file id2label.json, such as "
        '{"0": "road", "1": "sky"}, or classes.txt, one name a line, beside the data.'
    )


def read_class_names(file: str | Path) -> dict[int, str]:
    """
    Class names by train id, from JSON such as `{"0": "road", "1": "sky"}`, or text with one name a line.

    Raises:
        ValueError: If there is no such file, it cannot be read, or it names no classes from 0 on.
    """
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"There is no file of class names {file}.")
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}): save it as such.") from error
    if file.suffix.lower() != ".json":
        return _check_names([line.strip() for line in text.splitlines() if line.strip()], str(file))
    try:
        return _check_names(json.loads(text), str(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON ({error}).") from error


def _download_names(repo_id: str) -> Path | None:
    """The file of class names that data sets on the Hub may have."""
    try:
        return Path(hf_hub_download(repo_id, "id2label.json", repo_type="dataset"))
    except (HfHubHTTPError, LocalEntryNotFoundError):
        return None


def _check_names(names: Any, origin: str) -> dict[int, str]:
    """Names by train id, which must run from 0 on."""
    try:
        pairs = names.items() if isinstance(names, Mapping) else enumerate(names)
        by_id = {int(train): str(label) for train, label in pairs}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{origin} gives no class names: write them as {{id: name}}, ids being numbers.") from error
    if not by_id or sorted(by_id) != list(range(len(by_id))):
        missing = sorted(set(range(max(by_id, default=0) + 1)) - by_id.keys())[:10]
        raise ValueError(
            f"{origin} names {len(by_id)} classes, but their ids do not run from 0 on without gaps (missing: "
            f"{missing}): name the train ids. Where 0 stands for unlabelled in the files, leave it out, number the "
            "others from 0 and set reduce_labels (--reduce-labels)."
        )
    return {train: by_id[train] for train in sorted(by_id)}


def _find_palette(
    folder: Path | None, description: DatasetDescription | None, num_labels: int
) -> list[tuple[int, int, int]] | None:
    """Colours of the classes: the data set's, or those that lie beside the data."""
    if description is not None:
        return list(description.palette)
    if folder is None or not (folder / "palette.json").is_file():
        return None
    try:
        palette = [tuple(map(int, color)) for color in json.loads((folder / "palette.json").read_text("utf-8"))]
    except (TypeError, ValueError):
        palette = []
    are_colors = all(len(color) == 3 and min(color) >= 0 and max(color) <= 255 for color in palette)
    if len(palette) != num_labels or not are_colors:
        logger.warning("%s is not used: it is no list of %d colours [r, g, b].", folder / "palette.json", num_labels)
        return None
    return palette
