# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Looking through data before training: files, sizes, ids and how often each class occurs."""

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from datasets import IterableDataset
from tqdm.auto import tqdm

from ..utils.messages import one_line
from .label_mapping import OFF_BY_ONE_REMEDY, LabelMapping
from .loading import (
    SegmentationData,
    check_mode,
    check_sizes,
    convert_image,
    describe_file,
    get_upright_size,
    read_annotation,
    read_image,
)

_NUM_NAMED_FILES = 3
_NUM_NAMED_CLASSES = 10
_FOREGROUND = 255  # what drawing programs write for white
_BATCH_SIZE = 64


@dataclass
class Finding:
    """
    Something that is wrong, or may be.

    Args:
        severity (`str`):
            "error" for what training would stumble over or learn wrongly, otherwise "warning".
        kind (`str`):
            What it is, in a word or two, for programs.
        message (`str`):
            What it is, for people.
        remedy (`str`):
            What to do.
        files (`list[str]`):
            The first few files that show it.
        count (`int`):
            How many files show it; 0 where it is about all of them.
    """

    severity: Literal["error", "warning"]
    kind: str
    message: str
    remedy: str
    files: list[str] = field(default_factory=list)
    count: int = 0

    def __str__(self) -> str:
        more = f", and {self.count - len(self.files)} more" if self.count > len(self.files) else ""
        files = f" In {', '.join(self.files)}{more}." if self.files else ""
        return f"{self.message}{files} {self.remedy}".strip()


@dataclass
class ClassCount:
    """How often a class occurs: its name, its pixels, their share of all pixels (0 to 1), and images that hold it."""

    name: str
    pixels: int
    share: float
    images: int


@dataclass
class DataCheck:
    """
    What `check_data` found.

    Args:
        description (`str`):
            Where the data came from.
        label_ids (`str`):
            How raw ids become train ids.
        num_pairs (`int`):
            How many pairs were looked at.
        is_complete (`bool`):
            Whether these are all.
        classes (`dict[int, ClassCount]`):
            How often each class occurs, by train id.
        ignored (`ClassCount`):
            The same of pixels that count for nothing.
        findings (`list[Finding]`):
            Errors first.
    """

    description: str
    label_ids: str
    num_pairs: int
    is_complete: bool
    classes: dict[int, ClassCount]
    ignored: ClassCount
    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        """Findings to fix before training."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """Findings to look at."""
        return [finding for finding in self.findings if finding.severity == "warning"]

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        width = max(len(count.name) for count in (*self.classes.values(), self.ignored))
        pairs = "1 pair" if self.num_pairs == 1 else f"{self.num_pairs} pairs"
        lines = [
            self.description,
            f"Raw ids → train ids: {self.label_ids}",
            f"{pairs} looked at{'' if self.is_complete else ', not all'}.",
            "",
            f" id  {'class':<{width}}  % of pixels  images",
        ]
        for train_id, count in (*self.classes.items(), ("–", self.ignored)):
            lines.append(f"{train_id:>3}  {count.name:<{width}}  {100 * count.share:>11.3f}  {count.images:>6}")
        for title, findings in (("Errors", self.errors), ("Warnings", self.warnings)):
            lines += ["", f"{title}: {len(findings) or 'none'}", *(f"- {finding}" for finding in findings)]
        return "\n".join(lines)


def check_data(
    data: SegmentationData,
    limit: int | None = None,
    other: SegmentationData | DataCheck | None = None,
    show_progress: bool = True,
) -> DataCheck:
    """
    Look through all pairs, whatever is wrong with some of them. Memory does not grow with their number.

    Args:
        data ([`SegmentationData`]):
            The pairs.
        limit (`int`, *optional*):
            How many pairs to look at, from the first on; by default all.
        other ([`SegmentationData`] or [`DataCheck`], *optional*):
            The training split, or what was found in it, if `data` is another one: its classes are compared.
        show_progress (`bool`, *optional*, defaults to `True`):
            Whether to show a bar on a terminal.
    """
    if isinstance(other, SegmentationData):
        other = check_data(other, show_progress=show_progress)
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: look at one pair at least.")
    tally = _Tally(data.label_mapping, data.num_labels)
    length = None if isinstance(data.rows, IterableDataset) else len(data)
    total = limit if length is None else min(length, limit or length)
    inspections = _inspect_all(itertools.islice(data.rows, limit), data.label_mapping)
    # None shows the bar on a terminal alone.
    for inspection in tqdm(inspections, total=total, unit="pair", disable=None if show_progress else True):
        tally.add(inspection)
    is_complete = limit is None or tally.num_pairs < limit or tally.num_pairs == length
    return tally.report(data, is_complete, other)


def check_first_masks(data: SegmentationData, count: int = 32) -> list[str]:
    """
    Look at the first pairs, as every training does before it starts.

    Returns:
        `list[str]`: warnings.

    Raises:
        ValueError: If anything is wrong that training would stumble over or learn wrongly.
    """
    check = check_data(data, limit=count, show_progress=False)
    if check.errors:
        problems = "\n".join(f"- {finding}" for finding in check.errors)
        raise ValueError(f"The first {check.num_pairs} pairs of {data.description} have errors:\n{problems}")
    # That a class does not occur says nothing about data of which so little was seen.
    return [str(finding) for finding in check.warnings if finding.kind != "absent classes"]


@dataclass
class _Inspection:
    """What one pair shows: its annotation's file, (kind, file) of what is wrong, and the raw ids with their pixels."""

    annotation: str
    problems: list[tuple[str, str]]
    raw_ids: np.ndarray | None = None
    pixels: np.ndarray | None = None
    unknown: list[int] = field(default_factory=list)


def _inspect_all(rows: Iterable[Mapping[str, Any]], label_mapping: LabelMapping) -> Iterator[_Inspection]:
    """Inspect rows in several threads, some at a time, in their order."""
    rows = iter(rows)
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        while batch := list(itertools.islice(rows, _BATCH_SIZE)):
            yield from pool.map(lambda row: _inspect(row, label_mapping), batch)


def _inspect(row: Mapping[str, Any], label_mapping: LabelMapping) -> _Inspection:
    inspection = _Inspection(describe_file(row, "annotation"), problems=[])
    pictures = {}
    for column, read in {"image": read_image, "annotation": read_annotation}.items():
        try:
            pictures[column] = read(row)
            if column == "image":
                convert_image(pictures[column], row)
        except ValueError as error:
            reason = one_line(getattr(error.__cause__, "reason", error.__cause__)).rstrip(".")
            inspection.problems.append(("unreadable file", f"{describe_file(row, column)} ({reason})"))
    annotation = pictures.get("annotation")
    if annotation is None:
        return inspection
    if "image" in pictures:
        try:
            check_sizes(pictures["image"], annotation, row)
        except ValueError:
            sizes = ["×".join(map(str, size)) for size in (get_upright_size(pictures["image"]), annotation.size)]
            files = f"{describe_file(row, 'image')} ({sizes[0]}) with {inspection.annotation} ({sizes[1]})"
            inspection.problems.append(("different sizes", files))
    try:
        check_mode(annotation, row)
    except ValueError:
        inspection.problems.append(("colours for ids", f"{inspection.annotation} ({annotation.mode})"))
        return inspection
    inspection.raw_ids, inspection.pixels = count_ids(np.asarray(annotation))
    inspection.unknown = label_mapping.find_unknown(inspection.raw_ids)
    if inspection.unknown:
        named = ", ".join(map(str, inspection.unknown[:_NUM_NAMED_FILES]))
        more = ", …" if len(inspection.unknown) > _NUM_NAMED_FILES else ""
        inspection.problems.append(("unknown ids", f"{inspection.annotation} ({named}{more})"))
    return inspection


def count_ids(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids in an annotation, ascending, and how many pixels each has."""
    if raw.dtype.itemsize > 2:
        return np.unique(raw, return_counts=True)
    counts = np.bincount(raw.ravel())
    return np.flatnonzero(counts), counts[counts > 0]


class _Tally:
    """Adds up inspections."""

    def __init__(self, label_mapping: LabelMapping, num_labels: int):
        self.label_mapping = label_mapping
        self.num_labels = num_labels
        self.num_pairs = 0
        self.raw_pixels: Counter[int] = Counter()
        self.unknown: set[int] = set()
        # One place more than there are classes, for ignored pixels.
        self.pixels = np.zeros(num_labels + 1, dtype=np.int64)
        self.images = np.zeros(num_labels + 1, dtype=np.int64)
        self.files: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, inspection: _Inspection) -> None:
        """Add one pair."""
        self.num_pairs += 1
        for kind, file in inspection.problems:
            self._add_problem(kind, file)
        if inspection.raw_ids is None:
            return
        self.unknown.update(inspection.unknown)
        pixels = np.zeros_like(self.pixels)
        for raw, count in zip(inspection.raw_ids.tolist(), inspection.pixels.tolist()):
            self.raw_pixels[raw] += count
            train = self.label_mapping.raw_to_train.get(raw)
            if train is not None:
                pixels[self.num_labels if train == self.label_mapping.ignore_index else train] += count
        self.pixels += pixels
        self.images += pixels > 0
        if not pixels[:-1].any() and not inspection.unknown:
            self._add_problem("unlabelled image", inspection.annotation)

    def report(self, data: SegmentationData, is_complete: bool, other: DataCheck | None) -> DataCheck:
        """The outcome."""
        total = max(int(self.pixels.sum()), 1)
        names = {**data.id2label, self.num_labels: "ignored"}
        counts = {
            place: ClassCount(name, int(self.pixels[place]), int(self.pixels[place]) / total, int(self.images[place]))
            for place, name in sorted(names.items())
        }
        ignored = counts.pop(self.num_labels)
        findings = [*self._find_file_problems(), *self._find_label_problems(is_complete)]
        findings += [Finding("warning", "left out", message, "") for message in data.left_out]
        findings += self._find_absent_classes(counts, other)
        findings.sort(key=lambda finding: finding.severity != "error")
        return DataCheck(
            description=data.description,
            label_ids=self.label_mapping.describe(),
            num_pairs=self.num_pairs,
            is_complete=is_complete,
            classes=counts,
            ignored=ignored,
            findings=findings,
        )

    def _add_problem(self, kind: str, file: str) -> None:
        self.counts[kind] += 1
        files = self.files.setdefault(kind, [])
        if len(files) < _NUM_NAMED_FILES:
            files.append(file)

    def _find_file_problems(self) -> Iterator[Finding]:
        """What single files have."""
        texts = {
            "unreadable file": (
                "Files cannot be read.",
                "Replace them, or take the pairs out.",
            ),
            "different sizes": (
                "Images and annotations differ in size.",
                "Check that they belong together and that both are turned alike (EXIF), or resize the annotations by "
                "the nearest pixel.",
            ),
            "colours for ids": (
                "Annotations are pictures of colours, not of class ids.",
                "Look up each colour's class in the data set's palette and write the ids to a PNG of one channel; if "
                "all channels are equal, write the first one alone.",
            ),
        }
        for kind, (message, remedy) in texts.items():
            if self.counts[kind]:
                yield Finding("error", kind, message, remedy, self.files[kind], self.counts[kind])

    def _find_label_problems(self, is_complete: bool) -> Iterator[Finding]:
        """What the ids have."""
        if self.num_pairs == 0:
            yield Finding("error", "no data", "There are no pairs.", "Check the split and the folder.")
            return
        severity = "error" if is_complete else "warning"
        seen = set(self.raw_pixels)
        if self.unknown:
            yield self._describe_unknown()
        if seen == {0, _FOREGROUND} and self.label_mapping.raw_to_train.get(_FOREGROUND) == self._ignored:
            yield Finding(
                severity,
                "binary masks",
                f"All annotations hold 0 and {_FOREGROUND} only, and {_FOREGROUND} is ignored.",
                f"If {_FOREGROUND} is the foreground, write 1 for it.",
            )
        elif seen and not self.unknown and not self.pixels[:-1].any():
            yield Finding(
                severity,
                "nothing labelled",
                f"No pixel has a class: the annotations hold {_list_ids(seen)} only, which is ignored.",
                "Check label_ids and reduce_labels (--label-ids, --reduce-labels), and that these are the annotations "
                "of class ids.",
            )
        elif self.counts["unlabelled image"]:
            yield Finding(
                "warning",
                "unlabelled image",
                "Images have no labelled pixel.",
                "Nothing can be learned from them: label them, or take them out.",
                self.files["unlabelled image"],
                self.counts["unlabelled image"],
            )
        is_reduced = all(self.label_mapping.raw_to_train.get(i + 1) == i for i in range(self.num_labels))
        if is_reduced and self.num_labels > 1 and seen - {_FOREGROUND} == set(range(self.num_labels)):
            yield Finding(
                "warning",
                "off by one",
                f"Ids are lowered by one, 0 being ignored, but they run from 0 to {self.num_labels - 1} for "
                f"{self.num_labels} classes, so that the last class never occurs.",
                "If 0 is a class, set reduce_labels to false (--no-reduce-labels).",
            )

    @property
    def _ignored(self) -> int:
        return self.label_mapping.ignore_index

    def _describe_unknown(self) -> Finding:
        files, count = self.files["unknown ids"], self.counts["unknown ids"]
        if self.label_mapping.is_off_by_one(self.unknown):
            return Finding(
                "error",
                "off by one",
                f"Annotations hold the id {self.num_labels}, but {self.num_labels} classes have the ids 0 to "
                f"{self.num_labels - 1}: ids are probably counted from 1, and 0 stands for unlabelled.",
                OFF_BY_ONE_REMEDY,
                files,
                count,
            )
        return Finding(
            "error",
            "unknown ids",
            f"Annotations hold ids that no class has: {_list_ids(self.unknown)}. Known are "
            f"{self.label_mapping.describe()}.",
            "Choose how ids are read by label_ids or reduce_labels (--label-ids, --reduce-labels), give the names of "
            "all classes (--class-names), or write the annotations anew; they may be shades of colours, not ids.",
            files,
            count,
        )

    def _find_absent_classes(self, counts: dict[int, ClassCount], other: DataCheck | None) -> Iterator[Finding]:
        """Classes that do not occur, where all annotations could be read as ids."""
        others = [] if other is None else [finding.kind for finding in other.findings]
        if "colours for ids" in (*others, *(kind for kind, count in self.counts.items() if count)):
            return
        if other is None:
            absent = [count.name for count in counts.values() if not count.images]
            if len(absent) == len(counts):
                return  # another finding says why
            message = "never occur{s} in the pairs looked at."
            remedy = "What does not occur cannot be learned: add images, or number the ids anew without."
            kind = "absent classes"
        else:
            absent = [
                count.name
                for train_id, count in counts.items()
                if count.images and not (train_id in other.classes and other.classes[train_id].images)
            ]
            message = "occur{s} here, but not in the training pairs looked at."
            remedy = "Their IoU will be 0 unless a pretrained model knows them: move some of their images to train."
            kind = "absent from train"
        if absent:
            more = ", …" if len(absent) > _NUM_NAMED_CLASSES else ""
            named = f"{len(absent)} of {len(counts)} classes ({', '.join(absent[:_NUM_NAMED_CLASSES])}{more})"
            yield Finding("warning", kind, f"{named} {message.format(s='s' if len(absent) == 1 else '')}", remedy)


def _list_ids(ids: set[int]) -> str:
    more = f" and {len(ids) - _NUM_NAMED_CLASSES} more" if len(ids) > _NUM_NAMED_CLASSES else ""
    return ", ".join(map(str, sorted(ids)[:_NUM_NAMED_CLASSES])) + more
