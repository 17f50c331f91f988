# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The known data sets: classes, colours and what becomes of which id."""

import numpy as np
import pytest

from cgrseg_hf.data import DATASET_NAMES, get_description

# Number of classes, and the usual convention of files.
EXPECTED = {
    "ade20k": (150, "raw"),
    "camvid": (11, "segnet"),
    "cityscapes": (19, "train-ids"),
    "coco-stuff-10k": (171, "raw"),
    "coco-stuff-164k": (171, "raw"),
    "pascal-context-59": (59, "train-ids"),
    "pascal-context-60": (60, "train-ids"),
    "voc": (21, "train-ids"),
}


def test_all_data_sets_are_tested():
    assert sorted(DATASET_NAMES) == sorted(EXPECTED)


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_every_class_has_a_name_a_colour_and_an_id_in_files(name: str):
    description = get_description(name)
    num_labels, convention = EXPECTED[name]
    assert next(iter(description.label_mappings)) == convention
    assert list(description.id2label) == list(range(num_labels))
    assert len(set(description.id2label.values())) == num_labels
    assert np.array(description.palette, dtype=np.uint8).shape == (num_labels, 3)
    for mapping in description.label_mappings.values():
        assert set(mapping.raw_to_train.values()) - {255} == set(range(num_labels))


@pytest.mark.parametrize(
    ("name", "convention", "labels"),
    [
        ("ade20k", "raw", {1: "wall", 150: "flag", 0: None}),
        ("coco-stuff-164k", "raw", {0: "person", 12: "stop sign", 181: "wood", 255: None}),
        ("coco-stuff-164k", "train-ids", {0: "person", 170: "wood", 255: None}),
        ("coco-stuff-10k", "raw", {0: None, 1: "person", 13: "stop sign", 182: "wood"}),
        ("coco-stuff-10k", "train-ids", {0: None, 1: "person", 171: "wood"}),
        ("pascal-context-60", "train-ids", {0: "background", 1: "aeroplane"}),
        # 255 is one of the 459 classes of raw files, not "ignored"
        (
            "pascal-context-60",
            "raw",
            {0: "background", 2: "aeroplane", 255: "background", 458: "wood", 459: "background"},
        ),
        ("pascal-context-59", "train-ids", {0: None, 1: "aeroplane"}),
        ("pascal-context-59", "raw", {1: None, 2: "aeroplane", 458: "wood"}),
        ("camvid", "segnet", {0: "sky", 10: "bicyclist", 11: None}),
        ("camvid", "void-first", {0: None, 1: "sky", 11: "bicyclist"}),
        ("cityscapes", "train-ids", {0: "road", 18: "bicycle"}),
        ("cityscapes", "raw", {0: None, 7: "road", 17: "pole", 29: None, 33: "bicycle"}),
        ("voc", "train-ids", {0: "background", 20: "tvmonitor", 255: None}),
    ],
)
def test_ids_in_files_mean_the_right_classes(name: str, convention: str, labels: dict[int, str | None]):
    description = get_description(name)
    train_ids = description.label_mappings[convention](np.array([list(labels)], dtype=np.uint16), "a.png")[0].tolist()
    assert [description.id2label.get(train) for train in train_ids] == list(labels.values())
    assert all((train == 255) == (label is None) for train, label in zip(train_ids, labels.values()))


@pytest.mark.parametrize(
    ("name", "convention", "raw"),
    [
        ("coco-stuff-164k", "raw", 11),
        ("coco-stuff-164k", "train-ids", 171),
        ("coco-stuff-10k", "raw", 12),
        ("ade20k", "raw", 151),
        ("pascal-context-60", "raw", 460),
    ],
)
def test_ids_that_no_class_has_are_refused(name: str, convention: str, raw: int):
    with pytest.raises(ValueError, match=str(raw)):
        get_description(name).label_mappings[convention](np.array([[raw]], dtype=np.uint16), "a.png")


@pytest.mark.parametrize(
    ("typed", "meant"), [("ADE20K", "ade20k"), ("coco_stuff_164k", "coco-stuff-164k"), ("pascal-context59", "pascal-")]
)
def test_misspelt_names_get_a_hint(typed: str, meant: str):
    with pytest.raises(ValueError, match=f"Did you mean {meant}"):
        get_description(typed)
