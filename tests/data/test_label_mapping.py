# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw ids to train ids: types, unknown ids, and their description."""

import pickle
import re

import numpy as np
import pytest

from cgrseg_hf.data import LabelMapping


def apply(mapping: LabelMapping, *raw: int, dtype=np.int32) -> list[int]:
    return mapping(np.array([raw], dtype=dtype), "street.png")[0].tolist()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, ">u2"])
def test_ids_of_any_type_are_mapped(dtype):
    raw = np.array([[0, 1, 3], [255, 3, 1]], dtype=dtype)
    label_map = LabelMapping.reduce_zero(3)(raw, "a.png")
    assert label_map.dtype == np.uint8
    assert label_map.tolist() == [[255, 0, 2], [255, 2, 0]]
    assert raw[0, 0] == 0  # the caller's array stays as it is


def test_annotations_of_one_bit_are_mapped():
    assert apply(LabelMapping.identity(2), True, False, dtype=bool) == [1, 0]
    assert apply(LabelMapping.reduce_zero(1), True, False, dtype=bool) == [0, 255]


@pytest.mark.parametrize(
    ("mapping", "raw", "expected", "dtype"),
    [
        (LabelMapping({"3": "255"}), 3, 255, np.uint8),  # as from JSON
        (LabelMapping({0: 256}), 0, 256, np.int32),
        (LabelMapping.identity(300, ignore_index=-100), 299, 299, np.int32),
        (LabelMapping.identity(300, ignore_index=-100), 255, 255, np.int32),  # a class among so many
        (LabelMapping.identity(2, ignore_index=-100), 255, -100, np.int32),
        (LabelMapping.reduce_zero(2, ignore_index=-1), 255, -1, np.int32),
        (LabelMapping.reduce_zero(2, ignore_index=-1), 0, -1, np.int32),
        (LabelMapping({0: 255, 2**24 - 1: 1}), 2**24 - 1, 1, np.uint8),
    ],
)
def test_types_and_ignored_ids(mapping, raw, expected, dtype):
    label_map = mapping(np.array([[raw]]), "a.png")
    assert label_map.dtype == dtype and label_map.item() == expected


@pytest.mark.parametrize(
    ("mapping", "raw", "named"),
    [
        (LabelMapping.identity(3), (0, 7, 254), "[7, 254]"),
        (LabelMapping.identity(3), (1, 70000), "[70000]"),
        (LabelMapping.identity(3), (-1,), "[-1]"),
        (LabelMapping({0: 0, 2**24 - 1: 1}), (2**24,), f"[{2**24}]"),
        (LabelMapping({0: 0}), range(11), "9, 10]."),
        (LabelMapping({0: 0}), range(12), "9, 10] and 1 more."),
    ],
)
def test_unknown_ids_are_refused_by_name(mapping, raw, named):
    with pytest.raises(ValueError, match=rf"street\.png.*{re.escape(named)}"):
        apply(mapping, *raw)


def test_one_id_too_many_is_probably_counted_from_one():
    for raw, is_counted_from_one in (([1, 3], True), ([3, 4], False)):
        with pytest.raises(ValueError) as error:
            apply(LabelMapping.identity(3), *raw)
        assert ("counted from 1" in str(error.value)) == is_counted_from_one
    assert not LabelMapping.reduce_zero(3).is_off_by_one([3])
    assert LabelMapping({0: 0, 7: 255}).is_off_by_one([1])
    assert not LabelMapping({7: 255}).is_off_by_one([0])


@pytest.mark.parametrize("raw_to_train", [{-1: 0}, {2**24: 0}, {}])
def test_ids_that_no_table_holds(raw_to_train):
    with pytest.raises(ValueError, match=f"{len(raw_to_train)} ids"):
        LabelMapping(raw_to_train)


@pytest.mark.parametrize("make", [LabelMapping.identity, LabelMapping.reduce_zero])
def test_a_class_cannot_be_the_ignored_label(make):
    for num_labels, ignore_index, named in ((256, 255, "ignore_index=255"), (3, 0, "=0 "), (0, 255, "num_labels=0")):
        with pytest.raises(ValueError, match=named):
            make(num_labels, ignore_index)
    with pytest.raises(ValueError, match="ignore_index=2"):
        make(3).with_ignore_index(2)
    assert make(3, ignore_index=3).ignore_index == 3
    mapping = make(3, ignore_index=4)
    assert mapping.raw_to_train[4] == mapping.raw_to_train[255] == 4


def test_ignored_label_can_be_changed():
    mapping = LabelMapping({0: 255, 1: 0, 9: 1}).with_ignore_index(-100)
    assert apply(mapping, 0, 1, 9) == [-100, 0, 1] and mapping.ignore_index == -100


@pytest.mark.parametrize(
    ("mapping", "description"),
    [
        (LabelMapping.reduce_zero(150), "0 → ignored, 1–150 → 0–149, 255 → ignored"),
        (LabelMapping.identity(1), "0 → 0, 255 → ignored"),
        (LabelMapping({0: 255, 1: 255, 2: 0, 3: 0, 4: 1, 6: 2}), "0–1 → ignored, 2–3 → 0, 4 → 1, 6 → 2"),
        # consecutive with the ignored label by chance
        (LabelMapping({0: 1, 1: 2, 2: 3}, ignore_index=3), "0–1 → 1–2, 2 → ignored"),
        (
            LabelMapping({raw: raw // 2 for raw in range(0, 200, 2)}),
            ", ".join([f"{2 * train} → {train}" for train in range(14)] + ["…", "198 → 99"]),
        ),
    ],
)
def test_description_folds_consecutive_ids(mapping: LabelMapping, description: str):
    assert mapping.describe() == description


def test_workers_get_the_same_mapping():
    mapping = pickle.loads(pickle.dumps(LabelMapping({3: 1, 5: 255})))
    assert apply(mapping, 3, 5) == [1, 255]
    with pytest.raises(ValueError, match=r"\[0\]"):
        apply(mapping, 0)
