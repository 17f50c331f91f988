# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Images and annotations from every layout, and what is said when something is wrong with them."""

import json
import logging
import pickle
import shutil
import zipfile
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import pytest
from datasets.exceptions import DatasetNotFoundError
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from torch.utils.data import DataLoader

from cgrseg_hf.data import SegmentationData, SplitNotFoundError, load_data, read_class_names, tables

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"
TWO_NAMES = {0: "ground", 1: "sky"}


def names_of(data: SegmentationData) -> list[str]:
    return [row["name"] for row in data.rows]


def ids_of(data: SegmentationData, index: int = 0) -> list[int]:
    """Which train ids a pair holds."""
    return np.unique(data.read(list(data.rows)[index]).label_map).tolist()


@pytest.mark.parametrize("kind", ["annotations", "masks", "labels"])
@pytest.mark.parametrize(
    ("split", "folder"),
    [("train", "train"), ("train", "training"), ("validation", "val"), ("validation", "validation"), ("test", "test")],
)
@pytest.mark.parametrize("pattern", ["{split}/{kind}", "{kind}/{split}"])
def test_folders_by_split(tmp_path, write_pair, kind, split, folder, pattern):
    for name in ("b", "a"):
        write_pair(
            tmp_path / pattern.format(split=folder, kind="images") / f"{name}.jpg",
            tmp_path / pattern.format(split=folder, kind=kind) / f"{name}.png",
        )
    data = load_data(tmp_path, split, id2label=TWO_NAMES)
    assert names_of(data) == ["a.jpg", "b.jpg"]
    assert (len(data), data.split, data.num_labels, data.ignore_index) == (2, split, 2, 255)
    example = data.read(data.rows[1])
    assert (example.name, example.image.mode, example.image.size) == ("b.jpg", "RGB", (6, 4))
    assert example.label_map.tolist() == [[0, 1] * 3] * 4
    assert str(tmp_path) in data.description and "2 pairs" in data.description


def test_val_and_validation_are_the_same_split(two_class_folder):
    assert (
        names_of(load_data(two_class_folder, "val")) == names_of(load_data(two_class_folder, "validation")) == ["d.jpg"]
    )


@pytest.mark.parametrize("split", ["test", "night"])
def test_missing_split_names_those_there_are(two_class_folder, split):
    with pytest.raises(SplitNotFoundError, match=rf"no split '{split}', but 'train' and 'validation'"):
        load_data(two_class_folder, split)


def test_folder_without_splits(tmp_path, write_pair):
    write_pair(tmp_path / "images" / "a.jpg", tmp_path / "annotations" / "a.png")
    for split in ("train", "validation"):
        data = load_data(tmp_path, split, id2label=TWO_NAMES)
        assert names_of(data) == ["a.jpg"]
        assert data.split is None and "without splits" in data.description


@pytest.mark.parametrize(
    ("dataset", "split", "folder", "ids", "expected"),
    [
        ("ade20k", "train", "training", (0, 1, 150), [0, 149, 255]),
        ("ade20k", "validation", "validation", (0, 1, 150), [0, 149, 255]),
        ("coco-stuff-164k", "train", "train2017", (0, 181, 255), [0, 170, 255]),
        ("coco-stuff-164k", "validation", "val2017", (0, 181, 255), [0, 170, 255]),
        ("coco-stuff-10k", "train", "train2014", (0, 1, 182), [0, 170, 255]),
        ("coco-stuff-10k", "validation", "test2014", (0, 1, 182), [0, 170, 255]),
    ],
)
def test_known_data_sets(tmp_path, write_pair, dataset, split, folder, ids, expected):
    write_pair(tmp_path / "images" / folder / "a.jpg", tmp_path / "annotations" / folder / "a.png", ids)
    data = load_data(tmp_path, split, dataset)
    assert ids_of(data) == expected
    assert data.id2label[0] in ("wall", "person") and len(data.palette) == data.num_labels


@pytest.mark.parametrize(
    ("dataset", "train_ids", "expected"),
    [("coco-stuff-164k", (0, 170, 255), [0, 170, 255]), ("coco-stuff-10k", (0, 1, 171), [0, 170, 255])],
)
def test_coco_stuff_files_of_train_ids(tmp_path, write_pair, write_annotation, dataset, train_ids, expected):
    """The conversion writes its files beside the raw ones, which are then not the ones to take."""
    folders = tmp_path / "images" / "train2017", tmp_path / "annotations" / "train2017"
    write_pair(folders[0] / "a.jpg", folders[1] / "a.png", ids=(21,))
    write_annotation(folders[1] / "a_labelTrainIds.png", train_ids)
    assert ids_of(load_data(tmp_path, "train", dataset)) == expected
    assert ids_of(load_data(tmp_path, "train", dataset, label_ids="train-ids")) == expected
    assert ids_of(load_data(tmp_path, "train", dataset, label_ids="raw")) == [20 if "164k" in dataset else 19]
    (folders[1] / "a.png").unlink()
    with pytest.raises(ValueError, match="other ids than label_ids='raw' says"):
        load_data(tmp_path, "train", dataset, label_ids="raw")


def test_explicit_convention_holds_whatever_the_names(tmp_path, write_pair):
    write_pair(tmp_path / "images" / "a.jpg", tmp_path / "annotations" / "a.png", ids=(0, 170))
    data = load_data(tmp_path, "train", "coco-stuff-164k", label_ids="train-ids")
    assert ids_of(data) == [0, 170]


@pytest.mark.parametrize(
    ("label_ids", "ids", "expected"),
    [("segnet", (0, 10, 11), [0, 10, 255]), ("void-first", (0, 1, 11), [0, 10, 255])],
)
def test_camvid(tmp_path, write_pair, label_ids, ids, expected):
    write_pair(tmp_path / "train" / "images" / "a.png", tmp_path / "train" / "labels" / "a.png", ids)
    assert ids_of(load_data(tmp_path, "train", "camvid", label_ids=label_ids)) == expected
    with pytest.raises(ValueError, match=r"segnet: 0–10 → 0–10, 11 → ignored.*void-first: 0 → ignored"):
        load_data(tmp_path, "train", "camvid")  # both numberings are of 0 to 11


def write_voc(root: Path, write_pair, annotations: str, lists: str, ids, dtype=np.uint8) -> None:
    for name in ("train_b", "train_a", "val_a"):
        write_pair(root / "JPEGImages" / f"{name}.jpg", root / annotations / f"{name}.png", ids, dtype)
    (root / "ImageSets" / lists).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets" / lists / "train.txt").write_text("train_b\ntrain_a\n")
    (root / "ImageSets" / lists / "val.txt").write_text("val_a\n")


@pytest.mark.parametrize("source", ["", "VOCdevkit", "VOCdevkit/VOC2010"])
@pytest.mark.parametrize(
    ("dataset", "label_ids", "ids", "expected"),
    [
        ("pascal-context-60", "auto", (0, 1, 59), [0, 1, 59]),
        ("pascal-context-59", "auto", (0, 1, 59), [0, 58, 255]),
        ("pascal-context-60", "raw", (0, 2, 300, 458), [0, 1, 59]),
        ("pascal-context-59", "raw", (0, 2, 300, 458), [0, 58, 255]),
    ],
)
def test_pascal_context(tmp_path, write_pair, source, dataset, label_ids, ids, expected):
    root = tmp_path / "VOCdevkit" / "VOC2010"
    write_voc(root, write_pair, "SegmentationClass", "Segmentation", (0,))
    dtype = np.uint16 if label_ids == "raw" else np.uint8
    write_voc(root, write_pair, "SegmentationClassContext", "SegmentationContext", ids, dtype)
    data = load_data(tmp_path / source, "train", dataset, label_ids=label_ids)
    assert names_of(data) == ["train_a.jpg", "train_b.jpg"]
    assert ids_of(data) == expected
    assert names_of(load_data(tmp_path / source, "validation", dataset, label_ids=label_ids)) == ["val_a.jpg"]


def test_voc_beside_pascal_context(tmp_path, write_pair):
    root = tmp_path / "VOC2012"
    write_voc(root, write_pair, "SegmentationClassContext", "SegmentationContext", (59,))
    write_voc(root, write_pair, "SegmentationClass", "Segmentation", (0, 20, 255))
    assert ids_of(load_data(tmp_path, "train", "voc")) == [0, 20, 255]


@pytest.fixture
def cityscapes(tmp_path, write_image, write_annotation) -> Path:
    for city in ("bonn", "aachen"):
        write_image(tmp_path / "leftImg8bit" / "train" / city / f"{city}_000000_000019_leftImg8bit.png")
        start = tmp_path / "gtFine" / "train" / city / f"{city}_000000_000019_gtFine"
        write_annotation(Path(f"{start}_labelIds.png"), (0, 7, 33))
        write_annotation(Path(f"{start}_instanceIds.png"), (26001,), dtype=np.uint16)
        write_image(Path(f"{start}_color.png"))
    return tmp_path


def test_cityscapes_raw_ids(cityscapes):
    data = load_data(cityscapes, "train", "cityscapes")
    assert names_of(data) == ["aachen_000000_000019_leftImg8bit.png", "bonn_000000_000019_leftImg8bit.png"]
    assert ids_of(data) == [0, 18, 255]
    with pytest.raises(ValueError, match="other ids than label_ids='train-ids' says"):
        load_data(cityscapes, "train", "cityscapes", label_ids="train-ids")


def test_cityscapes_train_ids(cityscapes, write_annotation):
    for city in ("bonn", "aachen"):
        write_annotation(
            cityscapes / "gtFine" / "train" / city / f"{city}_000000_000019_gtFine_labelTrainIds.png", (3, 255)
        )
    assert ids_of(load_data(cityscapes, "train", "cityscapes")) == [3, 255]
    assert ids_of(load_data(cityscapes, "train", "cityscapes", label_ids="raw")) == [0, 18, 255]


def test_folders_within_a_split_keep_their_pairs_apart(tmp_path, write_pair):
    for scene, ids in {"day": (0,), "night": (1,)}.items():
        write_pair(tmp_path / "train" / "images" / scene / "1.jpg", tmp_path / "train" / "masks" / scene / "1.png", ids)
    data = load_data(tmp_path, "train", id2label=TWO_NAMES)
    assert [ids_of(data, 0), ids_of(data, 1)] == [[0], [1]]


def test_files_without_a_counterpart_are_left_out_and_named(two_class_folder, write_image, write_annotation, caplog):
    write_image(two_class_folder / "train" / "images" / "lone_photo.jpg")
    for name in ("lone_mask", "lost_mask"):
        write_annotation(two_class_folder / "train" / "annotations" / f"{name}.png")
    (two_class_folder / "train" / "images" / "._a.jpg").write_bytes(b"what a Mac leaves behind")
    with caplog.at_level(logging.INFO):
        data = load_data(two_class_folder, "train")
    assert names_of(data) == ["a.jpg", "b.jpg", "c.jpg"]
    assert len(data.left_out) == 2
    assert "1 image in" in caplog.text and "is left out: lone_photo." in caplog.text
    assert "2 annotations in" in caplog.text and "are left out: lone_mask, lost_mask." in caplog.text


def test_listed_names_without_files_are_left_out(tmp_path, write_pair):
    write_voc(tmp_path, write_pair, "SegmentationClass", "Segmentation", (0,))
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("train_a\nnowhere\n")
    data = load_data(tmp_path, "train", "voc")
    assert names_of(data) == ["train_a.jpg"]
    assert "nowhere" in data.left_out[0]


def test_names_that_never_match_are_an_error(tmp_path, write_pair):
    write_pair(tmp_path / "train" / "images" / "photo_1.jpg", tmp_path / "train" / "masks" / "mask_1.png")
    with pytest.raises(ValueError, match=r"photo_1\.jpg, annotations mask_1\.png\. Rename them"):
        load_data(tmp_path, "train", id2label=TWO_NAMES)


def test_annotations_in_other_formats_are_an_error(tmp_path, write_image):
    write_image(tmp_path / "train" / "images" / "a.jpg")
    write_image(tmp_path / "train" / "masks" / "a.jpg")
    with pytest.raises(ValueError, match=r"there are \.jpg files\. Convert them to PNG"):
        load_data(tmp_path, "train", id2label=TWO_NAMES)


def test_annotations_without_images_are_an_error(two_class_folder):
    for image in (two_class_folder / "train" / "images").iterdir():
        image.rename(image.with_suffix(".txt"))
    with pytest.raises(ValueError, match=r"there are no images \(JPEG"):
        load_data(two_class_folder, "train")


def test_two_images_of_one_name_are_an_error(two_class_folder, write_image):
    write_image(two_class_folder / "train" / "images" / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png have the same name"):
        load_data(two_class_folder, "train")


def test_unknown_layout_says_what_is_there(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match=r"no known way: it holds pictures\. Put images into train/images"):
        load_data(tmp_path, "train", id2label=TWO_NAMES)


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere does not exist: give a folder"):
        load_data(tmp_path / "nowhere", "train", id2label=TWO_NAMES)


def test_names_and_colours_beside_the_data(two_class_folder):
    (two_class_folder / "palette.json").write_text("[[1, 2, 3], [4, 5, 6]]")
    data = load_data(two_class_folder, "train")
    assert (data.id2label, data.palette) == (TWO_NAMES, [(1, 2, 3), (4, 5, 6)])
    (two_class_folder / "id2label.json").unlink()
    (two_class_folder / "classes.txt").write_text("road\nblue sky\n\n")
    assert load_data(two_class_folder, "train").id2label == {0: "road", 1: "blue sky"}
    (two_class_folder / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"names of the classes in .* are not known.*id2label\.json"):
        load_data(two_class_folder, "train")
    assert load_data(two_class_folder, "train", default_id2label=TWO_NAMES).id2label == TWO_NAMES


@pytest.mark.parametrize("content", ["5", "red", "[[1, 2, 3]]", "[[1, 2, 3], [4, 5]]", "[[1, 2, 3], [4, 5, 256]]"])
def test_wrong_colours_are_not_used(two_class_folder, content, caplog):
    (two_class_folder / "palette.json").write_text(content)
    assert load_data(two_class_folder, "train").palette is None
    assert "palette.json is not used: it is no list of 2 colours" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", None, r"no file of class names .*names\.txt"),
        ("names.json", b'{"0": ', r"names\.json is no JSON"),
        ("names.txt", "Gebäude".encode("latin-1"), r"names\.txt is no text in UTF-8 .*save it"),
    ],
)
def test_files_of_class_names_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_class_names(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({1: "ground", 2: "sky"}, r"without gaps \(missing: \[0\]\).*reduce_labels"),
        ({"ground": 0, "sky": 1}, "write them as {id: name}"),
        ({}, "names 0 classes"),
    ],
)
def test_names_must_be_numbered_from_0(two_class_folder, names, message):
    with pytest.raises(ValueError, match=message):
        load_data(two_class_folder, "train", id2label=names)


def test_reduce_labels(tmp_path, write_pair):
    write_pair(tmp_path / "images" / "a.jpg", tmp_path / "masks" / "a.png", ids=(0, 1, 2))
    assert ids_of(load_data(tmp_path, "train", id2label=TWO_NAMES, reduce_labels=True)) == [0, 1, 255]
    data = load_data(tmp_path, "train", id2label=TWO_NAMES, reduce_labels=True, ignore_index=-100)
    assert ids_of(data) == [-100, 0, 1] and data.ignore_index == -100
    # it also overrules what is known of a data set
    assert ids_of(load_data(tmp_path, "train", "ade20k")) == [0, 1, 255]
    assert ids_of(load_data(tmp_path, "train", "ade20k", reduce_labels=False)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": "ade20k", "label_ids": "rwa"}, "Did you mean raw"),
        ({"dataset": "camvid", "label_ids": "segnet", "reduce_labels": True}, "both say how ids are read"),
        ({"label_ids": "raw", "id2label": TWO_NAMES}, "name it by dataset"),
        ({"dataset": "ade20k", "id2label": TWO_NAMES}, r"id2label \(--class-names\) has 2 classes, but ade20k 150"),
        ({"id2label": TWO_NAMES, "ignore_index": 1}, "ignore_index=1 is one of the 2 classes"),
        ({"dataset": "voc", "ignore_index": 0}, "ignore_index=0 is one of the 21 classes"),
        ({"id2label": TWO_NAMES, "image_column": "image"}, "not columns"),
    ],
)
def test_contradicting_arguments(two_class_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_data(two_class_folder, "train", **arguments)


def test_photos_are_turned_as_a_person_sees_them(two_class_folder, write_image, write_annotation):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(two_class_folder / "train" / "images" / "a.jpg", size=(4, 6), exif=exif)
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).image.size == (6, 4)
    write_annotation(two_class_folder / "train" / "annotations" / "a.png", size=(4, 6))
    with pytest.raises(ValueError, match=r"a\.jpg is 6×4 pixels, but .*a\.png 4×6: .*EXIF turns it"):
        data.read(data.rows[0])


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_photos_of_other_modes_become_rgb(two_class_folder, write_image, mode):
    (two_class_folder / "train" / "images" / "a.jpg").unlink()
    write_image(two_class_folder / "train" / "images" / "a.png", mode=mode)
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).image.mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "P", "I", "I;16"])
def test_annotations_of_one_channel_are_ids(two_class_folder, mode):
    values = np.resize(np.array([0, 1], dtype=np.uint8), (4, 6))
    if mode == "P":
        picture = Image.fromarray(values)
        picture.putpalette([200, 0, 0, 0, 200, 0])
        assert picture.mode == "P"
    else:
        dtype = {"1": bool, "L": np.uint8, "I": np.int32, "I;16": np.uint16}[mode]
        picture = Image.fromarray(values.astype(dtype))
    file = two_class_folder / "train" / "annotations" / "a.tif"
    picture.save(file)
    file.with_suffix(".png").unlink()
    assert Image.open(file).mode == mode
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).label_map.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (np.arange(72, dtype=np.uint8).reshape(4, 6, 3), "palette"),
        (np.ones((4, 6, 3), dtype=np.uint8), r"getchannel\(0\)"),
    ],
)
def test_annotations_of_colours_are_refused(two_class_folder, values, remedy):
    Image.fromarray(values).save(two_class_folder / "train" / "annotations" / "a.png")
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=rf"a\.png is a picture of mode 'RGB'.*{remedy}"):
        data.read(data.rows[0])


@pytest.mark.parametrize("kind", ["images", "annotations"])
@pytest.mark.parametrize("content", [b"", b"no picture", "half"])
def test_broken_files_are_named(two_class_folder, kind, content):
    file = next((two_class_folder / "train" / kind).glob("b.*"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=rf"{kind}/{file.name} cannot be read .*replace the file"):
        data.read(data.rows[1])
    assert data.read(data.rows[0]).name == "a.jpg"


def test_different_sizes_are_named(two_class_folder, write_annotation):
    write_annotation(two_class_folder / "train" / "annotations" / "c.png", size=(5, 4))
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=r"c\.jpg is 6×4 pixels, but .*c\.png 5×4"):
        data.read(data.rows[2])


def test_unknown_ids_are_named(two_class_folder, write_annotation):
    write_annotation(two_class_folder / "train" / "annotations" / "c.png", ids=(0, 2, 7))
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=r"c\.png holds ids that no class has: \[2, 7\]"):
        data.read(data.rows[2])


def as_table(data: SegmentationData, image: str = "image", annotation: str = "annotation") -> datasets.Dataset:
    """The pairs with the files' bytes, as data sets on the Hub are."""
    rows = [
        {
            column: {"path": Path(row[name]["path"]).name, "bytes": Path(row[name]["path"]).read_bytes()}
            for column, name in ((image, "image"), (annotation, "annotation"))
        }
        for row in data.rows
    ]
    features = datasets.Features({image: datasets.Image(), annotation: datasets.Image()})
    return datasets.Dataset.from_list(rows, features=features)


def assert_same_pairs(data: SegmentationData, expected: SegmentationData) -> None:
    examples, others = ([each.read(row) for row in each.rows] for each in (data, expected))
    assert [example.name for example in examples] == [other.name for other in others]
    assert len(examples) > 0
    for example, other in zip(examples, others):
        assert example.image.tobytes() == other.image.tobytes()
        assert np.array_equal(example.label_map, other.label_map)


@pytest.mark.parametrize(
    "files",
    [
        {"train": "train-00000-of-00001.parquet", "val": "validation-00000-of-00001.parquet"},
        {"train": "data/train-00000-of-00001.parquet", "val": "data/val-00000-of-00001.parquet"},
        {"train": "train.parquet", "val": "val.parquet"},
        {"train": "train/0000.parquet", "val": "validation/0000.parquet"},
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_parquet(two_class_folder, tmp_path, files, streaming):
    expected = {split: load_data(two_class_folder, split) for split in files}
    for split, file in files.items():
        (tmp_path / "parquet" / file).parent.mkdir(parents=True, exist_ok=True)
        as_table(expected[split]).to_parquet(tmp_path / "parquet" / file)
    for split in files:
        data = load_data(tmp_path / "parquet", split, id2label=TWO_NAMES, streaming=streaming)
        assert data.split == split
        assert_same_pairs(data, expected[split])
    with pytest.raises(SplitNotFoundError, match="no split 'test', but train, val"):
        load_data(tmp_path / "parquet", "test", id2label=TWO_NAMES)


def test_parquet_without_splits(two_class_folder, tmp_path):
    expected = load_data(two_class_folder, "train")
    (tmp_path / "parquet").mkdir()
    as_table(expected).to_parquet(tmp_path / "parquet" / "0000.parquet")
    data = load_data(tmp_path / "parquet", "validation", id2label=TWO_NAMES)
    assert data.split is None and "without splits" in data.description
    assert_same_pairs(data, expected)


@pytest.mark.parametrize("streaming", [False, True])
def test_saved_data_sets(two_class_folder, tmp_path, streaming):
    expected = load_data(two_class_folder, "train")
    table = as_table(expected)
    datasets.DatasetDict({"train": table, "valid": table.select([2])}).save_to_disk(tmp_path / "both")
    table.save_to_disk(tmp_path / "one")
    table.save_to_disk(tmp_path / "each" / "train")
    table.select([2]).save_to_disk(tmp_path / "each" / "valid")
    for folder in ("both", "one", "each"):
        data = load_data(tmp_path / folder, "train", id2label=TWO_NAMES, streaming=streaming)
        assert data.split == (None if folder == "one" else "train")
        assert_same_pairs(data, expected)
    for folder in ("both", "each"):
        assert names_of(load_data(tmp_path / folder, "validation", id2label=TWO_NAMES)) == ["c.jpg"]
        with pytest.raises(SplitNotFoundError, match=r"no split 'test', but .*valid"):
            load_data(tmp_path / folder, "test", id2label=TWO_NAMES)


def test_metadata_file_without_splits():
    data = load_data(PHOTOS, "train")
    assert len(data) == 12 and data.num_labels == 171 and data.split is None
    row = data.rows[3]
    example = data.read(row)
    truth = np.asarray(Image.open(PHOTOS / "annotations" / example.name.replace(".jpg", ".png")))
    assert np.array_equal(example.label_map, truth)


@pytest.mark.parametrize(("kind", "streaming"), [("jsonl", False), ("jsonl", True), ("parquet", False)])
def test_metadata_file_in_each_split(two_class_folder, tmp_path, kind, streaming):
    expected = load_data(two_class_folder, "train")
    shutil.move(two_class_folder, tmp_path / "folder")
    expected_there = load_data(tmp_path / "folder", "train")
    for split in ("train", "val"):
        folder = tmp_path / "folder" / split
        # the names need not be alike where a file tells what belongs together
        lines = []
        for index, image in enumerate(sorted((folder / "images").iterdir())):
            annotation = folder / "annotations" / f"{image.stem}.png"
            annotation.rename(annotation.with_name(f"mask_{index}.png"))
            lines.append({"file_name": f"images/{image.name}", "annotation_file_name": f"annotations/mask_{index}.png"})
        if kind == "parquet":
            datasets.Dataset.from_list(lines).to_parquet(folder / "metadata.parquet")
        else:
            (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = load_data(tmp_path / "folder", "train", streaming=streaming)
    assert data.split == "train"
    assert names_of(data) == names_of(expected_there) == names_of(expected)
    assert ids_of(data) == [0, 1]
    assert names_of(load_data(tmp_path / "folder", "validation")) == ["d.jpg"]


def test_metadata_file_beside_the_splits_is_refused(two_class_folder):
    pair = {"file_name": "train/images/b.jpg", "annotation_file_name": "train/annotations/b.png"}
    (two_class_folder / "metadata.jsonl").write_text(json.dumps(pair))
    with pytest.raises(ValueError, match="beside the folders of the splits train, validation: put one into each"):
        load_data(two_class_folder, "train")


def test_splits_within_a_split_are_refused(two_class_folder, tmp_path):
    two_class_folder.rename(tmp_path / "train")
    lines = [{"file_name": "train/images/a.jpg", "annotation_file_name": "train/annotations/a.png"}]
    lines += [{"file_name": "val/images/d.jpg", "annotation_file_name": "val/annotations/d.png"}]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match=r"holds folders of the splits train, validation again: rename them"):
        load_data(tmp_path, "train", id2label=TWO_NAMES)


def test_metadata_file_is_read_anew_when_it_changes(two_class_folder):
    file = two_class_folder / "train" / "metadata.jsonl"
    for name in "ab":
        file.write_text(json.dumps({"file_name": "images/a.jpg", "annotation_file_name": f"annotations/{name}.png"}))
        (row,) = load_data(two_class_folder, "train").rows
        assert row["annotation"]["path"].endswith(f"{name}.png")


@pytest.mark.parametrize("streaming", [False, True])
def test_names_in_tables_tell_the_convention(two_class_folder, write_annotation, streaming):
    write_annotation(two_class_folder / "train" / "annotations" / "a_labelTrainIds.png", ids=(11, 170))
    (two_class_folder / "train" / "metadata.jsonl").write_text(
        json.dumps({"file_name": "images/a.jpg", "annotation_file_name": "annotations/a_labelTrainIds.png"})
    )
    assert ids_of(load_data(two_class_folder, "train", "coco-stuff-164k", streaming=streaming)) == [11, 170]
    raw = load_data(two_class_folder, "train", "coco-stuff-164k", label_ids="raw", streaming=streaming)
    with pytest.raises(ValueError, match=r"\[11\]"):
        ids_of(raw)


def test_metadata_file_that_names_no_annotations(two_class_folder):
    for name in "abc":
        with (two_class_folder / "train" / "metadata.jsonl").open("a") as file:
            file.write(json.dumps({"file_name": f"images/{name}.jpg", "text": "a photo"}) + "\n")
    shutil.rmtree(two_class_folder / "train" / "annotations")
    with pytest.raises(ValueError, match=r"unclear which columns .* There are image \(Image\), text \(string\)"):
        load_data(two_class_folder, "train")


def test_metadata_file_that_names_missing_files(two_class_folder):
    (two_class_folder / "train" / "metadata.jsonl").write_text(
        json.dumps({"file_name": "images/a.jpg", "annotation_file_name": "annotations/nowhere.png"})
    )
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=r"annotations/nowhere\.png cannot be read"):
        data.read(data.rows[0])


def test_metadata_file_that_is_broken(two_class_folder):
    (two_class_folder / "train" / "metadata.jsonl").write_text("images/a.jpg annotations/a.png")
    shutil.rmtree(two_class_folder / "train" / "annotations")
    with pytest.raises(ValueError, match=r'metadata file in .*train cannot be used .*\{"file_name": "images/a.jpg"'):
        load_data(two_class_folder, "train")


@pytest.mark.parametrize(
    ("image", "annotation"),
    [("pixel_values", "label"), ("Image", "Mask"), ("jpg", "png"), ("image", "seg"), ("x", "gt")],
)
def test_columns_are_found_by_name_or_content(two_class_folder, tmp_path, image, annotation):
    expected = load_data(two_class_folder, "train")
    as_table(expected, image, annotation).save_to_disk(tmp_path / "saved")
    assert_same_pairs(load_data(tmp_path / "saved", "train", id2label=TWO_NAMES), expected)


def test_columns_by_given_names(two_class_folder, tmp_path):
    expected = load_data(two_class_folder, "train")
    table = as_table(expected, "photo", "first").add_column("author", ["me"] * 3)
    table = table.map(lambda row: {"second": row["first"]})
    table.save_to_disk(tmp_path / "saved")
    with pytest.raises(
        ValueError, match=r"unclear which columns .*There are photo \(Image\), first .*author \(string\)"
    ):
        load_data(tmp_path / "saved", "train", id2label=TWO_NAMES)
    data = load_data(tmp_path / "saved", "train", id2label=TWO_NAMES, annotation_column="second")
    assert_same_pairs(data, expected)
    with pytest.raises(ValueError, match=r"unclear which columns .*There are author \(string\)\."):
        table.select_columns("author").save_to_disk(tmp_path / "words")
        load_data(tmp_path / "words", "train", id2label=TWO_NAMES)
    for column, problem in {"secand": "does not exist. Did you mean second", "author": "holds no pictures"}.items():
        with pytest.raises(ValueError, match=problem):
            load_data(tmp_path / "saved", "train", id2label=TWO_NAMES, annotation_column=column)


def test_rows_without_file_names_are_numbered(two_class_folder, tmp_path, write_annotation):
    write_annotation(two_class_folder / "train" / "annotations" / "b.png", ids=(9,))
    table = as_table(load_data(two_class_folder, "train"))
    nameless = [
        {column: {"path": None, "bytes": row[column]["bytes"]} for column in row}
        for row in table.cast_column("image", datasets.Image(decode=False)).cast_column(
            "annotation", datasets.Image(decode=False)
        )
    ]
    datasets.Dataset.from_list(nameless, features=table.features).save_to_disk(tmp_path / "saved")
    for streaming in (False, True):
        data = load_data(tmp_path / "saved", "train", id2label=TWO_NAMES, streaming=streaming)
        assert names_of(data) == ["0", "1", "2"]
        with pytest.raises(ValueError, match="the annotation of row 1 holds ids that no class has"):
            data.read(list(data.rows)[1])


def test_rows_name_files_by_address_or_name_none(two_class_folder, tmp_path):
    row = load_data(two_class_folder, "train").rows[0]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(row["annotation"]["path"], "a.png")
    image = {"path": Path(row["image"]["path"]).as_uri(), "bytes": None}
    annotations = [{"path": f"zip://a.png::{tmp_path / 'all.zip'}", "bytes": None}, None, {"path": None, "bytes": None}]
    file = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    features = datasets.Features({"image": file, "annotation": file})
    rows = [{"image": image, "annotation": annotation} for annotation in annotations]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(tmp_path / "saved")
    data = load_data(tmp_path / "saved", "train", id2label=TWO_NAMES)
    assert data.read(data.rows[0]).label_map.tolist() == [[0, 1] * 3] * 4
    for row, message in zip(data.rows.select([1, 2]), ("the row has none", "neither a path nor bytes")):
        with pytest.raises(ValueError, match=f"annotation of .*{message}"):
            data.read(row)


def test_streamed_folder_equals_the_folder(two_class_folder):
    expected = load_data(two_class_folder, "train")
    data = load_data(two_class_folder, "train", streaming=True)
    assert isinstance(data.rows, datasets.IterableDataset)
    assert_same_pairs(data, expected)
    with pytest.raises(TypeError, match="no length"):
        len(data)
    assert data  # not mistaken for empty


class LabelMaps:
    """Reads in a DataLoader's workers."""

    def __init__(self, data: SegmentationData):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.data.read(self.data.rows[index]).label_map


def test_workers_read(two_class_folder):
    data = load_data(two_class_folder, "train")
    assert_same_pairs(pickle.loads(pickle.dumps(data)), data)
    (batch,) = DataLoader(LabelMaps(data), batch_size=3, num_workers=1)
    assert batch.shape == (3, 4, 6)


@pytest.fixture
def hub(two_class_folder, tmp_path, monkeypatch) -> Path:
    """What the Hub has under user/ground_and_sky."""
    repo = tmp_path / "hub"
    repo.mkdir()
    as_table(load_data(two_class_folder, "train")).to_parquet(repo / "train-00000-of-00001.parquet")
    as_table(load_data(two_class_folder, "val")).to_parquet(repo / "validation-00000-of-00001.parquet")

    def redirect(function):
        def call(repo_id: str, *arguments, revision: str | None = None, **settings):
            if repo_id == "parquet":
                return function(repo_id, *arguments, **settings)
            if repo_id == "user/with_script" and revision is None:
                raise RuntimeError("Dataset scripts are no longer supported, but found with_script.py")
            if repo_id == "user/nowhere":
                raise DatasetNotFoundError("Dataset 'user/nowhere' doesn't exist on the Hub or cannot be accessed.")
            if repo_id == "user/broken":
                raise RuntimeError("The checksums differ.")
            if repo_id == "user/far_away":
                raise ConnectionError("Couldn't reach 'user/far_away' on the Hub")
            return function(str(repo), *arguments, **settings)

        return call

    monkeypatch.setattr(tables, "load_dataset", redirect(datasets.load_dataset))
    monkeypatch.setattr(tables, "get_dataset_split_names", redirect(datasets.get_dataset_split_names))
    return repo


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("repo_id", ["user/ground_and_sky", "user/with_script"])
def test_hub(two_class_folder, hub, repo_id, streaming):
    for split in ("train", "val"):
        data = load_data(repo_id, split, id2label=TWO_NAMES, streaming=streaming)
        assert_same_pairs(data, load_data(two_class_folder, split))
    assert ("refs/convert/parquet" in data.description) == (repo_id == "user/with_script")
    with pytest.raises(SplitNotFoundError, match="no split 'test', but train, validation"):
        load_data(repo_id, "test", id2label=TWO_NAMES, streaming=streaming)


def test_class_names_on_the_hub(two_class_folder, hub, monkeypatch):
    def download(repo_id: str, file: str, repo_type: str) -> str:
        if not (two_class_folder / file).exists():
            raise LocalEntryNotFoundError("neither on the Hub nor in the cache")
        return str(two_class_folder / file)

    monkeypatch.setattr("cgrseg_hf.data.loading.hf_hub_download", download)
    assert load_data("user/ground_and_sky", "train").id2label == TWO_NAMES
    (two_class_folder / "id2label.json").unlink()
    with pytest.raises(ValueError, match="names of the classes in user/ground_and_sky are not known"):
        load_data("user/ground_and_sky", "train")


@pytest.mark.parametrize(
    ("repo_id", "message"),
    [
        ("user/nowhere", "neither a folder here nor a data set on"),
        ("user/far_away", "Hub cannot be reached"),
        ("user/broken", r"cannot be loaded: The checksums differ\. Download"),
    ],
)
def test_hub_failures(hub, repo_id, message):
    with pytest.raises(ValueError, match=f"{repo_id} .*{message}"):
        load_data(repo_id, "train", id2label=TWO_NAMES)


def test_a_mistyped_folder_where_the_hub_does_not_answer(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"There is no folder 'nosuchfolder', and the .* check the spelling"):
        load_data("nosuchfolder", "train")


def test_streams_that_do_not_tell_their_columns(hub):
    for file in hub.glob("*.parquet"):
        file.unlink()
    (hub / "train.csv").write_text("image,annotation\na.jpg,a.png\n")
    with pytest.raises(ValueError, match="user/ground_and_sky does not tell its columns while it is streamed"):
        load_data("user/ground_and_sky", "train", id2label=TWO_NAMES, streaming=True)


@pytest.mark.parametrize(
    ("folder", "dataset", "arguments"),
    [
        ("camvid", "camvid", {"label_ids": "void-first"}),
        ("ade20k_sample", "ade20k", {}),
        ("coco_stuff_200", "coco-stuff-164k", {}),
        ("coco_stuff_sample", "coco-stuff-164k", {"streaming": True}),
    ],
)
def test_real_samples(sample_data, folder, dataset, arguments):
    data = load_data(sample_data / folder, "train", dataset, **arguments)
    for _, row in zip(range(8), data.rows):
        example = data.read(row)
        assert example.label_map.shape == example.image.size[::-1]


def test_both_conventions_of_coco_stuff_say_the_same(sample_data, tmp_path):
    for kind in ("images", "annotations", "annotations_trainids"):
        folder = tmp_path / "converted" / kind.removesuffix("_trainids")
        folder.mkdir(parents=True, exist_ok=True)
        for file in sorted((sample_data / "coco_stuff_sample" / kind).iterdir())[:8]:
            shutil.copy(file, folder)
    raw, train_ids = (
        load_data(tmp_path / "converted", "train", "coco-stuff-164k", label_ids=label_ids)
        for label_ids in ("raw", "train-ids")
    )
    assert [Path(row["annotation"]["path"]).stem[-8:] == "TrainIds" for row in train_ids.rows] == [True] * 8
    assert_same_pairs(raw, train_ids)


def test_folders_without_annotations_and_other_metadata_do_not_hide_the_masks(tmp_path, write_pair):
    write_pair(tmp_path / "train/images/a.png", tmp_path / "train/masks/a.png", [0, 1])
    (tmp_path / "train/annotations").mkdir()
    (tmp_path / "train/annotations/a.json").write_text("{}")
    (tmp_path / "train/metadata.csv").write_text("photographer,date\nsomebody,today\n")
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    data = load_data(tmp_path, "train")
    assert ids_of(data) == [0, 1]
