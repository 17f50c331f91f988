# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Images and annotations from folders of every layout, and errors that name what is wrong with them."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.pairs import assert_same_pairs, ids_of, names_of, write_annotation, write_image, write_pair
from PIL import Image

from cgrseg_hf.data import SplitNotFoundError, load_data, read_class_names
from cgrseg_hf.data.catalog import find_source

TWO_NAMES = {0: "ground", 1: "sky"}


@pytest.mark.parametrize("kind", ["annotations", "masks", "labels"])
@pytest.mark.parametrize(
    ("split", "folder"),
    [("train", "train"), ("train", "training"), ("validation", "val"), ("validation", "validation"), ("test", "test")],
)
@pytest.mark.parametrize("pattern", ["{split}/{kind}", "{kind}/{split}"])
def test_folders_by_split(tmp_path, kind, split, folder, pattern):
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


def test_missing_splits_name_those_there_are(two_class_folder):
    for split in ("val", "validation"):
        assert names_of(load_data(two_class_folder, split)) == ["d.jpg"]
    for split in ("test", "night"):
        with pytest.raises(SplitNotFoundError, match=rf"'{split}', but 'train' and 'validation'"):
            load_data(two_class_folder, split)


def test_folder_without_splits(tmp_path):
    write_pair(tmp_path / "images" / "a.jpg", tmp_path / "annotations" / "a.png")
    for split in ("train", "validation"):
        data = load_data(tmp_path, split, id2label=TWO_NAMES)
        assert names_of(data) == ["a.jpg"] and data.split is None


@pytest.mark.parametrize(
    ("dataset", "label_ids", "split", "folder", "ids", "expected"),
    [
        ("ade20k", "auto", "train", "training", (0, 1, 150), [0, 149, 255]),
        ("ade20k", "auto", "validation", "validation", (0, 1, 150), [0, 149, 255]),
        ("coco-stuff-164k", "auto", "train", "train2017", (0, 181, 255), [0, 170, 255]),
        ("coco-stuff-164k", "auto", "validation", "val2017", (0, 181, 255), [0, 170, 255]),
        ("coco-stuff-10k", "auto", "train", "train2014", (0, 1, 182), [0, 170, 255]),
        ("coco-stuff-10k", "auto", "validation", "test2014", (0, 1, 182), [0, 170, 255]),
        ("camvid", "segnet", "train", "train", (0, 10, 11), [0, 10, 255]),
        ("camvid", "void-first", "validation", "val", (0, 1, 11), [0, 10, 255]),
    ],
)
def test_known_data_sets(tmp_path, dataset, label_ids, split, folder, ids, expected):
    write_pair(tmp_path / "images" / folder / "a.jpg", tmp_path / "annotations" / folder / "a.png", ids)
    data = load_data(tmp_path, split, dataset, label_ids=label_ids)
    assert ids_of(data) == expected
    assert data.id2label[0] in ("wall", "person", "sky") and len(data.palette) == data.num_labels


@pytest.mark.parametrize(
    ("dataset", "train_ids", "raw"),
    [("coco-stuff-164k", (0, 170, 255), 20), ("coco-stuff-10k", (0, 1, 171), 19)],
)
def test_coco_stuff_files_of_train_ids(tmp_path, dataset, train_ids, raw):
    """The conversion writes its files beside the raw ones, which then do not count."""
    annotations = tmp_path / "annotations" / "train2017"
    write_pair(tmp_path / "images" / "train2017" / "a.jpg", annotations / "a.png", ids=(21,))
    write_annotation(annotations / "a_labelTrainIds.png", train_ids)
    for label_ids, expected in (("auto", [0, 170, 255]), ("train-ids", [0, 170, 255]), ("raw", [raw])):
        assert ids_of(load_data(tmp_path, "train", dataset, label_ids=label_ids)) == expected
    (annotations / "a.png").unlink()
    with pytest.raises(ValueError, match="label_ids='raw'"):
        load_data(tmp_path, "train", dataset, label_ids="raw")
    (annotations / "a_labelTrainIds.png").rename(annotations / "a.png")  # the convention counts, not the name
    assert ids_of(load_data(tmp_path, "train", dataset, label_ids="train-ids")) == [0, 170, 255]


def write_voc(root: Path, annotations: str, lists: str, ids, dtype=np.uint8) -> None:
    for name in ("train_b", "train_a", "val_a"):
        write_pair(root / "JPEGImages" / f"{name}.jpg", root / annotations / f"{name}.png", ids, dtype=dtype)
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
        ("voc", "auto", (0, 20, 255), [0, 20, 255]),
    ],
)
def test_pascal_context_and_voc(tmp_path, source, dataset, label_ids, ids, expected):
    """Both lie in one folder."""
    root = tmp_path / "VOCdevkit" / "VOC2010"
    kinds = [("SegmentationClass", "Segmentation"), ("SegmentationClassContext", "SegmentationContext")]
    kinds.sort(reverse=dataset == "voc")
    write_voc(root, *kinds[0], ids=(5,))
    write_voc(root, *kinds[1], ids, np.uint16 if label_ids == "raw" else np.uint8)
    data = load_data(tmp_path / source, "train", dataset, label_ids=label_ids)
    assert names_of(data) == ["train_a.jpg", "train_b.jpg"]
    assert ids_of(data) == expected
    assert names_of(load_data(tmp_path / source, "validation", dataset, label_ids=label_ids)) == ["val_a.jpg"]


def test_cityscapes(tmp_path):
    starts = []
    for city in ("bonn", "aachen"):
        write_image(tmp_path / "leftImg8bit" / "train" / city / f"{city}_000000_000019_leftImg8bit.png")
        starts.append(tmp_path / "gtFine" / "train" / city / f"{city}_000000_000019_gtFine")
        write_annotation(Path(f"{starts[-1]}_labelIds.png"), (0, 7, 33))
        write_annotation(Path(f"{starts[-1]}_instanceIds.png"), (26001,), dtype=np.uint16)
        write_image(Path(f"{starts[-1]}_color.png"))
    data = load_data(tmp_path, "train", "cityscapes")
    assert names_of(data) == ["aachen_000000_000019_leftImg8bit.png", "bonn_000000_000019_leftImg8bit.png"]
    assert ids_of(data) == [0, 18, 255]
    with pytest.raises(ValueError, match="label_ids='train-ids'"):
        load_data(tmp_path, "train", "cityscapes", label_ids="train-ids")
    for start in starts:
        write_annotation(Path(f"{start}_labelTrainIds.png"), (3, 255))
    assert ids_of(load_data(tmp_path, "train", "cityscapes")) == [3, 255]
    assert ids_of(load_data(tmp_path, "train", "cityscapes", label_ids="raw")) == [0, 18, 255]


def test_folders_within_a_split_keep_their_pairs_apart(tmp_path):
    for scene, ids in {"day": (0,), "night": (1,)}.items():
        write_pair(tmp_path / "train" / "images" / scene / "1.jpg", tmp_path / "train" / "masks" / scene / "1.png", ids)
    data = load_data(tmp_path, "train", id2label=TWO_NAMES)
    assert [ids_of(data, 0), ids_of(data, 1)] == [[0], [1]]


def test_files_without_a_counterpart_are_left_out_and_named(two_class_folder, images, annotations, caplog):
    write_image(images / "lone_photo.jpg")
    for name in ("lone_mask", "lost_mask"):
        write_annotation(annotations / f"{name}.png")
    (images / "._a.jpg").write_bytes(b"what a Mac leaves behind")
    with caplog.at_level(logging.INFO):
        data = load_data(two_class_folder, "train")
    assert names_of(data) == ["a.jpg", "b.jpg", "c.jpg"]
    assert [message.split(": ")[-1] for message in data.left_out] == ["lone_photo.", "lone_mask, lost_mask."]
    assert all(message in caplog.text for message in data.left_out)


def test_listed_names_without_files_are_left_out(tmp_path):
    write_voc(tmp_path, "SegmentationClass", "Segmentation", (0,))
    (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text("train_a\nnowhere\n")
    data = load_data(tmp_path, "train", "voc")
    assert names_of(data) == ["train_a.jpg"]
    assert "nowhere" in data.left_out[0]


@pytest.mark.parametrize(
    ("image", "annotation", "message"),
    [
        ("images/photo_1.jpg", "masks/mask_1.png", r"photo_1\.jpg, annotations mask_1\.png"),
        ("images/a.jpg", "masks/a.jpg", r"\.jpg files"),
        ("images/a.txt", "masks/a.png", "no images"),
        (os.fsdecode(b"images/\xff\n.jpg"), os.fsdecode(b"masks/\xff\n.png"), r"\\udcff\\n\.(jpg|png)"),
        ("photos/a.jpg", "ids/a.png", "holds train"),
    ],
)
def test_folders_in_which_nothing_pairs_up(tmp_path, image, annotation, message):
    for file in (image, annotation):
        write_image(tmp_path / "train" / file, format="PNG")
    with pytest.raises(ValueError, match=message):
        load_data(tmp_path, "train", id2label=TWO_NAMES)


def test_two_images_of_one_name_are_an_error(two_class_folder, images):
    write_image(images / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png"):
        load_data(two_class_folder, "train")


def test_sources_that_are_not_there(tmp_path):
    (tmp_path / "file").touch()
    for source in (tmp_path / "nowhere", tmp_path / "file", None):
        with pytest.raises(ValueError, match=r"nowhere|is a file|--data"):
            load_data(source, "train", id2label=TWO_NAMES)
    description, source = find_source(None, "ade20k")
    assert source == description.hub_id is not None


def test_names_and_colours_beside_the_data(two_class_folder):
    (two_class_folder / "palette.json").write_text("[[1, 2, 3], [4, 5, 6]]")
    data = load_data(two_class_folder, "train")
    assert (data.id2label, data.palette) == (TWO_NAMES, [(1, 2, 3), (4, 5, 6)])
    (two_class_folder / "id2label.json").unlink()
    (two_class_folder / "classes.txt").write_text("road\nblue sky\n\n")
    assert load_data(two_class_folder, "train").id2label == {0: "road", 1: "blue sky"}
    (two_class_folder / "classes.txt").unlink()
    with pytest.raises(ValueError, match=r"id2label\.json"):
        load_data(two_class_folder, "train")
    assert load_data(two_class_folder, "train", default_id2label=TWO_NAMES).id2label == TWO_NAMES


@pytest.mark.parametrize("content", ["5", "red", "[[1, 2, 3]]", "[[1, 2, 3], [4, 5]]", "[[1, 2, 3], [4, 5, 256]]"])
def test_wrong_colours_are_not_used(two_class_folder, content, caplog):
    (two_class_folder / "palette.json").write_text(content)
    assert load_data(two_class_folder, "train").palette is None
    assert "palette.json" in caplog.text


@pytest.mark.parametrize(
    ("name", "content"),
    [("names.txt", None), ("names.json", b'{"0": '), ("names.txt", "Gebäude".encode("latin-1"))],
)
def test_files_of_class_names_that_cannot_be_read(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name):
        read_class_names(tmp_path / name)


def test_reduce_labels(tmp_path):
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
        ({"dataset": "camvid"}, r"segnet: 0–10 → 0–10, .*void-first: 0 → ignored"),  # both numberings are of 0 to 11
        ({"dataset": "camvid", "label_ids": "segnet", "reduce_labels": True}, "reduce_labels=True"),
        ({"label_ids": "raw", "id2label": TWO_NAMES}, "--dataset"),
        ({"dataset": "ade20k", "id2label": TWO_NAMES}, "2 classes, but ade20k 150"),
        ({"id2label": TWO_NAMES, "ignore_index": 1}, "ignore_index=1"),
        ({"dataset": "voc", "ignore_index": 0}, "ignore_index=0"),
        ({"id2label": TWO_NAMES, "image_column": "image"}, "image_column"),
        ({"id2label": {1: "ground", 2: "sky"}}, r"missing: \[0\]"),
        ({"id2label": {"ground": 0, "sky": 1}}, "{id: name}"),
        ({"id2label": {}}, "0 classes"),
    ],
)
def test_arguments_that_do_not_fit(two_class_folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        load_data(two_class_folder, "train", **arguments)


def test_photos_are_turned_as_a_person_sees_them(two_class_folder, images, annotations):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(images / "a.jpg", size=(4, 6), exif=exif)
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).image.size == (6, 4)
    write_annotation(annotations / "a.png", size=(4, 6))
    with pytest.raises(ValueError, match=r"a\.jpg is 6×4 .*a\.png 4×6: .*EXIF"):
        data.read(data.rows[0])


@pytest.mark.parametrize("mode", ["1", "L", "P", "I", "I;16"])
def test_annotations_of_one_channel_are_ids(two_class_folder, annotations, mode):
    values = np.resize(np.array([0, 1], dtype=np.uint8), (4, 6))
    image = Image.fromarray(values.astype({"1": bool, "I": np.int32, "I;16": np.uint16}.get(mode, np.uint8)))
    if mode == "P":
        image.putpalette([200, 0, 0, 0, 200, 0])
    assert image.mode == mode
    (annotations / "a.png").unlink()
    image.save(annotations / "a.tif")
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).label_map.tolist() == values.tolist()


@pytest.mark.parametrize(("step", "remedy"), [(1, "palette"), (0, r"getchannel\(0\)")])
def test_annotations_of_colours_are_refused(two_class_folder, annotations, step, remedy):
    Image.fromarray(step * np.arange(72, dtype=np.uint8).reshape(4, 6, 3)).save(annotations / "a.png")
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=rf"a\.png .*'RGB'.*{remedy}"):
        data.read(data.rows[0])


@pytest.mark.parametrize("kind", ["images", "annotations"])
@pytest.mark.parametrize("content", [b"", b"no picture", "half"])
def test_broken_files_are_named(two_class_folder, kind, content):
    file = next((two_class_folder / "train" / kind).glob("b.*"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=rf"{kind}/{file.name} cannot be read"):
        data.read(data.rows[1])
    assert data.read(data.rows[0]).name == "a.jpg"


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"size": (5, 4)}, r"c\.jpg is 6×4 pixels, but .*c\.png 5×4"),
        ({"ids": (0, 2, 7)}, r"c\.png .*\[2, 7\]"),
        ({"ids": (0, 1, 2)}, r"c\.png .*counted from 1.*--label-ids void-first"),
    ],
)
def test_annotations_that_do_not_fit_are_named(two_class_folder, annotations, written, message):
    write_annotation(annotations / "c.png", **written)
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=message):
        data.read(data.rows[2])


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
    assert all(Path(row["annotation"]["path"]).stem.endswith("_labelTrainIds") for row in train_ids.rows)
    assert_same_pairs(raw, train_ids)
