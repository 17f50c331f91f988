# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""How people lay out images and annotations in folders, and which file belongs to which."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..model.image_formats_cgrseg import FORMATS_IN_WORDS, IMAGE_SUFFIXES
from ..utils.messages import one_line

# What folders and files of a split are called, the likeliest first. COCO-Stuff 10k validates on its test2014.
SPLIT_NAMES = {
    "train": ("train", "training", "train2017", "train2014"),
    "validation": ("validation", "val", "valid", "val2017", "val2014", "test2014"),
    "test": ("test", "testing", "test2017"),
}
ANNOTATION_FOLDERS = ("annotations", "masks", "labels")
ANNOTATION_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")

_TRAIN_IDS_ENDING = "_labelTrainIds"
_CITYSCAPES_IMAGE_ENDING = "_leftImg8bit"
_CITYSCAPES_RAW_IDS_ENDING = "_gtFine_labelIds"
_NAMED_AFTER_CONTENT = re.compile(r"_gtFine_[A-Za-z]+$|_labelTrainIds$")
_NUM_NAMED = 3


class SplitNotFoundError(ValueError):
    """The source is there, but not the split of it that was asked for."""


def split_names(split: str) -> tuple[str, ...]:
    """What the folders and files of a split may be called, its own name first."""
    for names in SPLIT_NAMES.values():
        if split in names:
            return (split, *(name for name in names if name != split))
    return (split,)


@dataclass
class FilePairs:
    """
    Images and the annotations that belong to them.

    Args:
        images (`list[Path]`): Sorted by name.
        annotations (`list[Path]`): As many.
        layout (`str`): Where they were found, for people.
        has_splits (`bool`): Whether they are those of the split alone, rather than all there are.
        left_out (`list[str]`): What did not pair up, for people.
    """

    images: list[Path]
    annotations: list[Path]
    layout: str
    has_splits: bool
    left_out: list[str]


@dataclass
class _Folders:
    """Where images and annotations may be; `stems` are the only ones that count, where a list names them."""

    images: Path
    annotations: Path
    layout: str
    has_splits: bool = True
    stems: list[str] | None = None


def find_file_pairs(folder: Path, split: str, dataset: str | None, label_ids: str) -> FilePairs | None:
    """
    Find and pair the files of a split.

    Args:
        folder (`Path`):
            The data set.
        split (`str`):
            Its name, usually a key of `SPLIT_NAMES`.
        dataset (`str`, *optional*):
            Name in the catalogue: Pascal Context and VOC share a folder.
        label_ids (`str`):
            "raw" leaves out the files that are named as holding train ids; otherwise these are preferred where there
            are both.

    Returns:
        `FilePairs`, or None if the folder is laid out in no known way.

    Raises:
        SplitNotFoundError: If the layout is known, but has not this split.
        ValueError: If no image has an annotation, or it is unclear which it has.
    """
    candidates = list(_find_folders(folder, split, dataset))
    if candidates:
        with_annotations = (one for one in candidates if list_files(one.annotations, ANNOTATION_SUFFIXES))
        return _pair_files(next(with_annotations, candidates[0]), label_ids)
    others = [other for other in SPLIT_NAMES if any(_find_folders(folder, other, dataset))]
    if others:
        raise SplitNotFoundError(
            f"{folder} has no split {split!r}, but {' and '.join(map(repr, others))}: name that one, or add a folder "
            f"called {split!r} with its images and annotations."
        )
    return None


def _find_folders(folder: Path, split: str, dataset: str | None) -> Iterator[_Folders]:
    """The folders of a split, in the order in which layouts are tried."""
    yield from _find_cityscapes(folder, split)
    yield from _find_pascal(folder, split, dataset)
    splits = split_names(split)
    for kind in ANNOTATION_FOLDERS:
        pairs = [(f"{name}/images", f"{name}/{kind}") for name in splits]
        pairs += [(f"images/{name}", f"{kind}/{name}") for name in splits]
        for images, annotations in pairs:
            if (folder / images).is_dir() and (folder / annotations).is_dir():
                yield _Folders(folder / images, folder / annotations, f"{images} + {annotations}")
    for kind in ANNOTATION_FOLDERS:
        images, annotations = folder / "images", folder / kind
        if _holds_files(images, IMAGE_SUFFIXES) and _holds_files(annotations, ANNOTATION_SUFFIXES):
            yield _Folders(images, annotations, f"images + {kind}, without splits", has_splits=False)


def _find_cityscapes(folder: Path, split: str) -> Iterator[_Folders]:
    for name in split_names(split):
        images, annotations = folder / "leftImg8bit" / name, folder / "gtFine" / name
        if images.is_dir() and annotations.is_dir():
            yield _Folders(images, annotations, f"leftImg8bit/{name} + gtFine/{name}")


def _find_pascal(folder: Path, split: str, dataset: str | None) -> Iterator[_Folders]:
    kinds = {"SegmentationClassContext": "SegmentationContext", "SegmentationClass": "Segmentation"}
    if dataset == "voc":
        del kinds["SegmentationClassContext"]
    elif dataset is not None and dataset.startswith("pascal-context"):
        del kinds["SegmentationClass"]
    years = sorted([*folder.glob("VOC20*"), *folder.glob("VOCdevkit/VOC20*")])
    if dataset == "voc":
        years.reverse()
    for root in (folder, *years):
        for annotations, lists in kinds.items():
            for name in split_names(split):
                file = root / "ImageSets" / lists / f"{name}.txt"
                if file.is_file() and (root / annotations).is_dir() and (root / "JPEGImages").is_dir():
                    stems = file.read_text(encoding="utf-8").split()
                    layout = f"JPEGImages + {annotations}, listed in ImageSets/{lists}/{name}.txt"
                    yield _Folders(root / "JPEGImages", root / annotations, layout, stems=stems)


def _pair_files(folders: _Folders, label_ids: str) -> FilePairs:
    """Pair images and annotations by what their names have in common."""
    images = _by_name(list_files(folders.images, IMAGE_SUFFIXES), folders.images, _image_stem)
    files = _choose_annotations(list_files(folders.annotations, ANNOTATION_SUFFIXES), label_ids)
    annotations = _by_name(files, folders.annotations, _annotation_stem)
    wanted = images.keys() | annotations.keys() if folders.stems is None else set(folders.stems)
    pairs = sorted(wanted & images.keys() & annotations.keys())
    if not pairs:
        raise ValueError(_describe_failure(folders, images, annotations, label_ids))
    lone_images = (wanted & images.keys()) - annotations.keys()
    lone_annotations = (wanted & annotations.keys()) - images.keys()
    left_out = [
        _describe_left_out("image", "annotation", lone_images, folders.images),
        _describe_left_out("annotation", "image", lone_annotations, folders.annotations),
        _describe_left_out("listed name", "file", wanted - images.keys() - annotations.keys(), folders.images),
    ]
    return FilePairs(
        images=[images[stem] for stem in pairs],
        annotations=[annotations[stem] for stem in pairs],
        layout=folders.layout,
        has_splits=folders.has_splits,
        left_out=[message for message in left_out if message],
    )


def _choose_annotations(files: list[Path], label_ids: str) -> list[Path]:
    """The annotations among the files, where data sets keep several kinds side by side."""
    for convention, other in (("train-ids", "raw"), ("raw", "train-ids")):
        named = [file for file in files if find_convention(file.stem) == convention]
        if label_ids != other and named:
            return named
    return [file for file in files if not _NAMED_AFTER_CONTENT.search(file.stem)]


def find_convention(stem: str) -> str | None:
    """The convention that an annotation's name tells."""
    if stem.endswith(_TRAIN_IDS_ENDING):
        return "train-ids"
    return "raw" if stem.endswith(_CITYSCAPES_RAW_IDS_ENDING) else None


def _image_stem(file: Path) -> str:
    return file.stem.removesuffix(_CITYSCAPES_IMAGE_ENDING)


def _annotation_stem(file: Path) -> str:
    return _NAMED_AFTER_CONTENT.sub("", file.stem)


def _by_name(files: list[Path], folder: Path, find_stem: Callable[[Path], str]) -> dict[str, Path]:
    """Files by the folder they lie in and what they have in common with their counterpart."""
    found: dict[str, Path] = {}
    for file in files:
        if not str(file).isprintable() and any("\ud800" <= one <= "\udfff" for one in str(file)):
            raise ValueError(f"The name of {one_line(file)} is no UTF-8, in which tables hold names: rename it.")
        other = found.setdefault((file.relative_to(folder).parent / find_stem(file)).as_posix(), file)
        if other is not file:
            raise ValueError(
                f"{other} and {file} have the same name, so that it is unclear which of them makes a pair: take one "
                "of them away."
            )
    return found


def list_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Files with one of the suffixes in a folder and, as Cityscapes sorts its files by city, in the folders in it."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and not file.is_dir()
    )


def list_images(folder: str | os.PathLike) -> list[Path]:
    """
    List the images in a folder and its subfolders, sorted.

    Raises:
        ValueError: If there is none.
    """
    files = list_files(Path(folder), IMAGE_SUFFIXES)
    if not files:
        raise ValueError(f"There are no images ({FORMATS_IN_WORDS}) in {folder}.")
    return files


def _holds_files(folder: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether there are such files in the folder itself."""
    return folder.is_dir() and any(file.suffix.lower() in suffixes for file in folder.iterdir())


def _describe_left_out(kind: str, missing: str, names: set[str], folder: Path) -> str | None:
    if not names:
        return None
    start = f"1 {kind} in {folder} has no {missing} and is left out"
    if len(names) > 1:
        start = f"{len(names)} {kind}s in {folder} have no {missing} and are left out"
    more = ", …" if len(names) > _NUM_NAMED else ""
    return f"{start}: {', '.join(sorted(names)[:_NUM_NAMED])}{more}."


def _describe_failure(folders: _Folders, images: dict, annotations: dict, label_ids: str) -> str:
    """Why there are no pairs."""
    image_names = [file.name for file in images.values()][:_NUM_NAMED]
    annotation_names = [file.name for file in annotations.values()][:_NUM_NAMED]
    message = f"No image in {folders.images} has an annotation of the same name in {folders.annotations}"
    if image_names and annotation_names:
        listed = "" if folders.stems is None else " and is listed"
        return (
            f"{message}{listed}: images are called {', '.join(image_names)}, annotations "
            f"{', '.join(annotation_names)}. Rename them so that they differ in the ending alone."
        )
    if not image_names:
        return f"{message}: there are no images ({FORMATS_IN_WORDS})."
    suffixes = sorted({file.suffix for file in folders.annotations.rglob("*") if file.is_file()})
    if not set(suffixes).isdisjoint(ANNOTATION_SUFFIXES):
        return (
            f"{message}: by their names, the annotations hold other ids than label_ids={label_ids!r} says. Leave "
            "label_ids (--label-ids) at 'auto'."
        )
    return (
        f"{message}: annotations are pictures of class ids without loss ({', '.join(ANNOTATION_SUFFIXES)}), but there "
        f"are {', '.join(suffixes) or 'no'} files. Convert them to PNG."
    )
