# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The known data sets: classes, colours and what becomes of which id."""

import json

import numpy as np
import pytest

from cgrseg_hf.data import DATASET_NAMES, get_description

NUM_LABELS = {
    "ade20k": 150,
    "camvid": 11,
    "cityscapes": 19,
    "coco-stuff-10k": 171,
    "coco-stuff-164k": 171,
    "pascal-context-59": 59,
    "pascal-context-60": 60,
    "voc": 21,
}


def test_all_data_sets_are_tested():
    assert sorted(DATASET_NAMES) == sorted(NUM_LABELS)


@pytest.mark.parametrize("name", DATASET_NAMES)
def test_every_class_has_a_name_a_colour_and_an_id_in_files(name: str):
    description = get_description(name)
    num_labels = NUM_LABELS[name]
    assert list(description.id2label) == list(range(num_labels))
    assert len(set(description.id2label.values())) == num_labels
    assert len(description.palette) == num_labels
    assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in description.palette)
    for mapping in description.label_mappings.values():
        assert set(mapping.raw_to_train.values()) - {255} == set(range(num_labels))


@pytest.mark.parametrize(
    ("name", "convention", "raw", "label"),
    [
        ("ade20k", "raw", 1, "wall"),
        ("ade20k", "raw", 150, "flag"),
        ("ade20k", "raw", 0, None),
        ("coco-stuff-164k", "raw", 0, "person"),
        ("coco-stuff-164k", "raw", 12, "stop sign"),
        ("coco-stuff-164k", "raw", 181, "wood"),
        ("coco-stuff-164k", "raw", 255, None),
        ("coco-stuff-164k", "train-ids", 0, "person"),
        ("coco-stuff-164k", "train-ids", 170, "wood"),
        ("coco-stuff-164k", "train-ids", 255, None),
        ("coco-stuff-10k", "raw", 0, None),
        ("coco-stuff-10k", "raw", 1, "person"),
        ("coco-stuff-10k", "raw", 13, "stop sign"),
        ("coco-stuff-10k", "raw", 182, "wood"),
        ("coco-stuff-10k", "train-ids", 0, None),
        ("coco-stuff-10k", "train-ids", 1, "person"),
        ("coco-stuff-10k", "train-ids", 171, "wood"),
        ("pascal-context-60", "train-ids", 0, "background"),
        ("pascal-context-60", "train-ids", 1, "aeroplane"),
        ("pascal-context-60", "raw", 0, "background"),
        ("pascal-context-60", "raw", 2, "aeroplane"),
        ("pascal-context-60", "raw", 255, "background"),  # one of the 459, not "ignored"
        ("pascal-context-60", "raw", 458, "wood"),
        ("pascal-context-60", "raw", 459, "background"),
        ("pascal-context-59", "train-ids", 0, None),
        ("pascal-context-59", "train-ids", 1, "aeroplane"),
        ("pascal-context-59", "raw", 1, None),
        ("pascal-context-59", "raw", 2, "aeroplane"),
        ("pascal-context-59", "raw", 458, "wood"),
        ("camvid", "segnet", 0, "sky"),
        ("camvid", "segnet", 10, "bicyclist"),
        ("camvid", "segnet", 11, None),
        ("camvid", "void-first", 0, None),
        ("camvid", "void-first", 1, "sky"),
        ("camvid", "void-first", 11, "bicyclist"),
        ("cityscapes", "train-ids", 0, "road"),
        ("cityscapes", "train-ids", 18, "bicycle"),
        ("cityscapes", "raw", 0, None),
        ("cityscapes", "raw", 7, "road"),
        ("cityscapes", "raw", 17, "pole"),
        ("cityscapes", "raw", 29, None),
        ("cityscapes", "raw", 33, "bicycle"),
        ("voc", "train-ids", 0, "background"),
        ("voc", "train-ids", 20, "tvmonitor"),
        ("voc", "train-ids", 255, None),
    ],
)
def test_ids_in_files_mean_the_right_classes(name: str, convention: str, raw: int, label: str | None):
    description = get_description(name)
    train = int(description.label_mappings[convention](np.array([[raw]], dtype=np.uint16), "a.png")[0, 0])
    assert description.id2label.get(train) == label
    assert (train == 255) == (label is None)


@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("ade20k", "raw"),
        ("camvid", "segnet"),
        ("cityscapes", "train-ids"),
        ("coco-stuff-10k", "raw"),
        ("coco-stuff-164k", "raw"),
        ("pascal-context-59", "train-ids"),
        ("pascal-context-60", "train-ids"),
        ("voc", "train-ids"),
    ],
)
def test_usual_convention_comes_first(name: str, convention: str):
    assert next(iter(get_description(name).label_mappings)) == convention


def test_ids_that_no_class_has_are_refused():
    for name, convention, raw in (
        ("coco-stuff-164k", "raw", 11),
        ("coco-stuff-164k", "train-ids", 171),
        ("coco-stuff-10k", "raw", 12),
        ("ade20k", "raw", 151),
        ("pascal-context-60", "raw", 460),
    ):
        with pytest.raises(ValueError, match=str(raw)):
            get_description(name).label_mappings[convention](np.array([[raw]], dtype=np.uint16), "a.png")


@pytest.mark.parametrize(
    ("typed", "meant"), [("ADE20K", "ade20k"), ("coco_stuff_164k", "coco-stuff-164k"), ("pascal-context59", "pascal-")]
)
def test_misspelt_names_get_a_hint(typed: str, meant: str):
    with pytest.raises(ValueError, match=f"Did you mean {meant}.*Known are ade20k, camvid"):
        get_description(typed)


def test_camvid_names_equal_those_beside_the_real_sample(sample_data):
    names = json.loads((sample_data / "camvid" / "id2label.json").read_text())
    assert {int(train): label for train, label in names.items()} == get_description("camvid").id2label
