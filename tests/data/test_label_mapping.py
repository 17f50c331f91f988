# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Raw ids to train ids: types, unknown ids, and how it is told."""

import pickle
import re

import numpy as np
import pytest

from cgrseg_hf.data import LabelMapping


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, ">u2"])
def test_ids_of_any_type_are_mapped(dtype):
    raw = np.array([[0, 1, 3], [255, 3, 1]], dtype=dtype)
    label_map = LabelMapping.reduce_zero(3)(raw, "a.png")
    assert label_map.dtype == np.uint8
    assert label_map.tolist() == [[255, 0, 2], [255, 2, 0]]
    assert raw[0, 0] == 0  # the caller's array stays as it is


def test_annotations_of_one_bit_are_mapped():
    raw = np.array([[True, False]])
    assert LabelMapping.identity(2)(raw, "a.png").tolist() == [[1, 0]]
    assert LabelMapping.reduce_zero(1)(raw, "a.png").tolist() == [[0, 255]]


def test_classes_beyond_eight_bits_get_wider_ids():
    mapping = LabelMapping.identity(300, ignore_index=-100)
    label_map = mapping(np.array([[0, 299, 255]], dtype=np.uint16), "a.png")
    assert label_map.dtype == np.int32
    assert label_map.tolist() == [[0, 299, 255]]  # 255 is a class among so many


def test_usual_ignored_id_is_ignored_whatever_the_ignored_label_is():
    assert LabelMapping.identity(2, ignore_index=-100)(np.array([[1, 255]]), "a.png").tolist() == [[1, -100]]
    assert LabelMapping.reduce_zero(2, ignore_index=-1)(np.array([[0, 2, 255]]), "a.png").tolist() == [[-1, 1, -1]]


@pytest.mark.parametrize(("raw", "named"), [([[0, 7, 254]], "[7, 254]"), ([[1, 70000]], "[70000]"), ([[-1]], "[-1]")])
def test_unknown_ids_are_refused_by_name(raw, named):
    with pytest.raises(ValueError, match=r"street\.png holds ids .* Known are 0–2 → 0–2, 255 → ignored") as error:
        LabelMapping.identity(3)(np.array(raw, dtype=np.int32), "street.png")
    assert named in str(error.value)


def test_many_unknown_ids_are_counted():
    for count, end in ((10, "9, 10]. Known"), (11, "9, 10] and 1 more. Known")):
        with pytest.raises(ValueError, match=re.escape(end)):
            LabelMapping({0: 0})(np.arange(count + 1)[None], "street.png")


def test_one_id_too_many_is_told_to_be_counted_from_one():
    for raw, is_counted_from_one in (([1, 3], True), ([3, 4], False)):
        with pytest.raises(ValueError) as error:
            LabelMapping.identity(3)(np.array([raw]), "street.png")
        assert ("probably counted from 1" in str(error.value)) == is_counted_from_one
    assert not LabelMapping.reduce_zero(3).is_off_by_one([3])
    assert LabelMapping({0: 0, 7: 255}).is_off_by_one([1])
    assert not LabelMapping({7: 255}).is_off_by_one([0])


def test_ids_at_the_ends_of_the_table():
    last = 2**24 - 1
    mapping = LabelMapping({0: 255, last: 1})
    assert mapping(np.array([[0, last]]), "a.png").tolist() == [[255, 1]]
    with pytest.raises(ValueError, match=rf"\[{last + 1}\]"):
        mapping(np.array([[last + 1]]), "a.png")
    for raw_to_train, words in (({-1: 0}, "1 ids from -1 to -1"), ({last + 1: 0}, f"to {last + 1}"), ({}, "0 ids")):
        with pytest.raises(ValueError, match=words):
            LabelMapping(raw_to_train)


def test_ids_from_json_are_numbers():
    assert LabelMapping({"3": "1"}).raw_to_train == {3: 1}


def test_train_ids_of_more_than_eight_bits():
    assert LabelMapping({0: 255})(np.zeros((1, 1), np.uint8), "a.png").dtype == np.uint8
    label_map = LabelMapping({0: 256})(np.zeros((1, 1), np.uint8), "a.png")
    assert label_map.dtype == np.int32 and label_map.item() == 256


def test_a_class_cannot_be_the_ignored_label():
    for make in (LabelMapping.identity, LabelMapping.reduce_zero):
        with pytest.raises(ValueError, match="ignore_index=255 is one of the 256 classes"):
            make(256)
        with pytest.raises(ValueError, match="ignore_index=0 is one of the 3 classes"):
            make(3, ignore_index=0)
        with pytest.raises(ValueError, match="num_labels=0: there must be at least one"):
            make(0)
        assert make(3, ignore_index=3).ignore_index == 3
        mapping = make(3, ignore_index=4)
        assert mapping.ignore_index == 4 and mapping.raw_to_train[4] == mapping.raw_to_train[255] == 4
    with pytest.raises(ValueError, match="ignore_index=2 is one of the 3 classes"):
        LabelMapping.identity(3).with_ignore_index(2)


def test_ignored_label_can_be_changed():
    mapping = LabelMapping({0: 255, 1: 0, 9: 1}).with_ignore_index(-100)
    assert mapping(np.array([[0, 1, 9]]), "a.png").tolist() == [[-100, 0, 1]]
    assert mapping.ignore_index == -100
    with pytest.raises(ValueError, match="num_labels=0"):
        LabelMapping({0: 255}).with_ignore_index(-100)


@pytest.mark.parametrize(
    ("mapping", "description"),
    [
        (LabelMapping.reduce_zero(150), "0 → ignored, 1–150 → 0–149, 255 → ignored"),
        (LabelMapping.identity(1), "0 → 0, 255 → ignored"),
        (LabelMapping({0: 255, 1: 255, 2: 0, 3: 0, 4: 1, 6: 2}), "0–1 → ignored, 2–3 → 0, 4 → 1, 6 → 2"),
        # consecutive with the ignored label by chance
        (LabelMapping({0: 1, 1: 2, 2: 3}, ignore_index=3), "0–1 → 1–2, 2 → ignored"),
    ],
)
def test_description_folds_consecutive_ids(mapping: LabelMapping, description: str):
    assert mapping.describe() == description


def test_long_descriptions_are_shortened():
    mapping = LabelMapping({raw: raw // 2 for raw in range(0, 200, 2)})
    description = mapping.describe()
    assert description.startswith("0 → 0, 2 → 1, ") and description.endswith("…, 198 → 99")
    assert len(description) < 200


def test_workers_get_the_same_mapping():
    mapping = pickle.loads(pickle.dumps(LabelMapping({3: 1, 5: 255})))
    assert mapping(np.array([[3, 5]], dtype=np.uint8), "a.png").tolist() == [[1, 255]]
    with pytest.raises(ValueError, match=r"\[0\]"):
        mapping(np.array([[0]], dtype=np.uint8), "a.png")
