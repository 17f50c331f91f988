# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From the ids in annotation files to the ids that a model is trained on: the one place where ids are mapped."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

# What annotation files commonly hold where nothing was labelled.
_USUAL_IGNORED_ID = 255
_LONGEST_DESCRIPTION = 16
OFF_BY_ONE_REMEDY = (
    "Set reduce_labels (--reduce-labels), name a known data set and its convention (such as --dataset camvid "
    "--label-ids void-first), or give the names of all classes."
)


@dataclass(frozen=True)
class LabelMapping:
    """
    Train ids of raw ids.

    Args:
        raw_to_train (`Mapping[int, int]`):
            Train id, or `ignore_index`, of each id that may occur in annotation files.
        ignore_index (`int`, *optional*, defaults to 255):
            The train id of pixels that count for nothing.
    """

    raw_to_train: Mapping[int, int]
    ignore_index: int = 255

    def __post_init__(self):
        raw_to_train = {int(raw): int(train) for raw, train in self.raw_to_train.items()}
        if not raw_to_train or min(raw_to_train) < 0 or max(raw_to_train) > 0xFFFFFF:
            raise ValueError(
                f"raw_to_train has {len(raw_to_train)} ids from {min(raw_to_train, default=None)} to "
                f"{max(raw_to_train, default=None)}: it needs at least one, and ids in annotation files run from 0 on."
            )
        train_ids = {*raw_to_train.values(), self.ignore_index}
        dtype = np.uint8 if min(train_ids) >= 0 and max(train_ids) <= 255 else np.int32
        # One place more than there are ids, at least 257: 8 bits always fall inside, and the last is never known.
        train = np.full(max(max(raw_to_train) + 2, 257), self.ignore_index, dtype=dtype)
        is_known = np.zeros(len(train), dtype=bool)
        train[list(raw_to_train)] = list(raw_to_train.values())
        is_known[list(raw_to_train)] = True
        for name, value in {"raw_to_train": raw_to_train, "_train": train, "_is_known": is_known}.items():
            object.__setattr__(self, name, value)

    @classmethod
    def identity(cls, num_labels: int, ignore_index: int = 255) -> "LabelMapping":
        """Ids 0 to `num_labels` - 1 as they are; `ignore_index`, and 255 where that is no class, are ignored."""
        check_ignore_index(num_labels, ignore_index)
        return cls({**ignored_ids(num_labels, ignore_index), **{i: i for i in range(num_labels)}}, ignore_index)

    @classmethod
    def reduce_zero(cls, num_labels: int, ignore_index: int = 255) -> "LabelMapping":
        """0 is ignored, 1 to `num_labels` become 0 to `num_labels` - 1; 255, where that is no class, is ignored."""
        check_ignore_index(num_labels, ignore_index)
        raw_to_train = {0: ignore_index, **{i + 1: i for i in range(num_labels)}}
        return cls({**ignored_ids(num_labels + 1, ignore_index), **raw_to_train}, ignore_index)

    def with_ignore_index(self, ignore_index: int) -> "LabelMapping":
        """The same mapping where ignored pixels have another train id."""
        train_ids = [train for train in self.raw_to_train.values() if train != self.ignore_index]
        check_ignore_index(max(train_ids, default=-1) + 1, ignore_index)
        raw_to_train = {
            raw: ignore_index if train == self.ignore_index else train for raw, train in self.raw_to_train.items()
        }
        return LabelMapping(raw_to_train, ignore_index)

    def reduced(self) -> "LabelMapping":
        """The same mapping with train id 0 ignored and all others lowered by one."""
        raw_to_train = {
            raw: self.ignore_index if train in (0, self.ignore_index) else train - 1
            for raw, train in self.raw_to_train.items()
        }
        return LabelMapping(raw_to_train, self.ignore_index)

    def __call__(self, raw: np.ndarray, name: str) -> np.ndarray:
        """
        Map a whole annotation.

        Args:
            raw (`numpy.ndarray` of shape `(height, width)`):
                Ids as in the file, whole numbers or bool.
            name (`str`):
                The file, for the error's sake.

        Returns:
            `numpy.ndarray` of shape `(height, width)`: train ids and `ignore_index`, uint8 where all of them fit,
            otherwise int32.

        Raises:
            ValueError: If the annotation holds an id that has no train id.
        """
        places = self._places(raw)
        if not self._is_known.take(places).all():
            unknown = self.find_unknown(np.unique(raw))
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            if self.is_off_by_one(unknown):
                raise ValueError(
                    f"{name} holds the id {unknown[0]}. Known are {self.describe()}: ids are probably counted from 1, "
                    f"and 0 stands for unlabelled. {OFF_BY_ONE_REMEDY} check-data looks through all files."
                )
            raise ValueError(
                f"{name} holds ids that no class has: {unknown[:10]}{more}. Known are {self.describe()}. Check the "
                "number of class names, choose how ids are read by label_ids or reduce_labels (--label-ids, "
                "--reduce-labels), or write the file anew with known ids; check-data looks through all files."
            )
        return self._train.take(places)

    def find_unknown(self, raw_ids: np.ndarray) -> list[int]:
        """Those of the raw ids that have no train id, in their order."""
        raw_ids = np.asarray(raw_ids)
        return raw_ids[~self._is_known.take(self._places(raw_ids))].astype(int).tolist()

    def is_off_by_one(self, unknown: Collection[int]) -> bool:
        """Whether the unknown ids of annotations are the one that follows the last class, so that 0 may be none."""
        num_labels = max((train for train in self.raw_to_train.values() if train != self.ignore_index), default=-1) + 1
        return set(unknown) == {num_labels} and self.raw_to_train.get(0) == 0

    def describe(self) -> str:
        """What becomes of which raw ids, such as "0 → ignored, 1–150 → 0–149"."""
        runs = [self._describe_run(raw_ids) for raw_ids in self._runs()]
        if len(runs) > _LONGEST_DESCRIPTION:
            runs = [*runs[: _LONGEST_DESCRIPTION - 2], "…", runs[-1]]
        return ", ".join(runs)

    def _places(self, raw: np.ndarray) -> np.ndarray:
        """Where in the tables the ids are; ids beyond, and negative ones, at the last place, which is never known."""
        if raw.dtype == bool:
            return raw.astype(np.uint8)
        if raw.dtype == np.uint8:
            return raw
        last = len(self._train) - 1
        return np.where((raw < 0) | (raw > last), last, raw).astype(np.intp)

    def _runs(self) -> list[range]:
        """Consecutive raw ids whose train ids are consecutive too or all the same, in order."""
        runs: list[list[int]] = []
        for raw in sorted(self.raw_to_train):
            if runs and raw == runs[-1][-1] + 1 and self._continues(runs[-1], raw):
                runs[-1].append(raw)
            else:
                runs.append([raw])
        return [range(run[0], run[-1] + 1) for run in runs]

    def _continues(self, run: list[int], raw: int) -> bool:
        """Whether a raw id goes on as the run before it began."""
        train, last = self.raw_to_train[raw], self.raw_to_train[run[-1]]
        if self.ignore_index in (train, last):
            return train == last
        step = last - self.raw_to_train[run[-2]] if len(run) > 1 else train - last
        return step in (0, 1) and train - last == step

    def _describe_run(self, raw_ids: range) -> str:
        first, last = self.raw_to_train[raw_ids[0]], self.raw_to_train[raw_ids[-1]]
        target = "ignored" if first == self.ignore_index else describe_range(first, last)
        return f"{describe_range(raw_ids[0], raw_ids[-1])} → {target}"


def describe_range(first: int, last: int) -> str:
    """Two ends of a range, or the one number that it is."""
    return f"{first}" if first == last else f"{first}–{last}"


def ignored_ids(num_raw_ids: int, ignore_index: int) -> dict[int, int]:
    """The ids in files that mean "ignored", those below `num_raw_ids` being classes."""
    return {raw: ignore_index for raw in (_USUAL_IGNORED_ID, ignore_index) if raw >= num_raw_ids}


def check_ignore_index(num_labels: int, ignore_index: int) -> None:
    """Refuse an ignored label that is a class."""
    if num_labels < 1:
        raise ValueError(f"num_labels={num_labels}: there must be at least one class.")
    if 0 <= ignore_index < num_labels:
        raise ValueError(
            f"ignore_index={ignore_index} is one of the {num_labels} classes: take a number that is none, for instance "
            "-100, here and in the model's configuration."
        )
