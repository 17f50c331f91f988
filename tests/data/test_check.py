# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Faults that are found in data before training, whatever else is wrong."""

import json
import logging
import os

import numpy as np
import pytest
from helpers.pairs import write_annotation, write_image, write_pair
from PIL import Image
from typer.testing import CliRunner

from cgrseg_hf.commands.main import app
from cgrseg_hf.data import DataCheck, check_data, check_first_masks, load_data


def kinds_of(check: DataCheck) -> set[tuple[str, str]]:
    return {(finding.severity, finding.kind) for finding in check.findings}


def check_folder(folder, split="train", other=None, limit=None, **settings) -> DataCheck:
    return check_data(load_data(folder, split, **settings), limit, other, show_progress=False)


def write_annotations(folder, *ids, suffix=".png", dtype=np.uint8) -> None:
    """Write the annotations of the pairs a, b, c, each with the ids."""
    for name in "abc":
        (folder / "train" / "annotations" / f"{name}.png").unlink()
        write_annotation(folder / "train" / "annotations" / f"{name}{suffix}", ids, dtype=dtype)


@pytest.mark.parametrize("streaming", [False, True])
def test_classes_are_counted(two_class_folder, annotations, streaming):
    write_annotation(annotations / "a.png", ids=(1,))
    write_annotation(annotations / "b.png", ids=(0, 1, 1, 255))
    check = check_folder(two_class_folder, streaming=streaming)
    ground, sky = check.classes[0], check.classes[1]
    # a: 24 pixels of sky; b: 6, 12 and 6 ignored; c: 12 of each
    assert (ground.name, ground.pixels, ground.images) == ("ground", 18, 2)
    assert (sky.pixels, sky.images) == (48, 3)
    assert (check.ignored.pixels, check.ignored.images) == (6, 1)
    assert sky.share == pytest.approx(48 / 72)
    assert (check.num_pairs, check.is_complete, check.findings) == (3, True, [])
    assert ["1", "sky", "66.667", "3"] in [line.split() for line in str(check).splitlines()]


def test_limit(two_class_folder):
    checks = [check_folder(two_class_folder, limit=limit) for limit in (1, 3, 9)]
    assert [(check.num_pairs, check.is_complete) for check in checks] == [(1, False), (3, True), (3, True)]
    with pytest.raises(ValueError, match="limit=0"):
        check_folder(two_class_folder, limit=0)


def test_every_bad_file_is_found_and_good_ones_counted(two_class_folder, images, annotations):
    for name in "defghij":
        write_pair(images / f"{name}.jpg", annotations / f"{name}.png")
    (images / "a.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])
    (annotations / "b.png").write_bytes(b"")
    write_annotation(annotations / "c.png", size=(7, 4))
    write_image(annotations / "d.png")
    write_annotation(annotations / "e.png", ids=(0, 2, 9))
    write_annotation(annotations / "f.png", ids=(255,))
    Image.fromarray(np.full((4, 6), np.nan, dtype=np.float32)).save(images / "j.tif")
    (images / "j.jpg").unlink()
    write_image(images / "lone.jpg")
    check = check_folder(two_class_folder)
    found = {finding.kind: finding for finding in check.findings}
    expected = {
        "unreadable file": ("error", ["a.jpg", "b.png", "j.tif"]),
        "different sizes": ("error", ["c.jpg (6×4)", "c.png (7×4)"]),
        "colours for ids": ("error", ["d.png (RGB)"]),
        "unknown ids": ("error", ["e.png (2, 9)"]),
        "unlabelled image": ("warning", ["f.png"]),
        "left out": ("warning", ["lone"]),
    }
    assert kinds_of(check) == {(severity, kind) for kind, (severity, _) in expected.items()}
    for kind, (_, named) in expected.items():
        assert all(name in str(found[kind]) for name in named)
    assert found["unreadable file"].count == 3
    assert check.findings == [*check.errors, *check.warnings]
    assert all(finding.remedy for finding in check.errors)
    # ids count: all of a, c, g, h, i and j, and the third of e that is known
    assert (check.num_pairs, check.classes[0].images, check.classes[1].images) == (10, 7, 6)


def test_only_the_first_files_are_named(two_class_folder, images, annotations):
    for index in range(7):
        write_pair(images / f"x{index}.jpg", annotations / f"x{index}.png", ids=(0, 40))
    (finding,) = check_folder(two_class_folder).errors
    assert (len(finding.files), finding.count) == (3, 7)
    assert "x2.png (40), and 4 more." in str(finding)


@pytest.mark.parametrize(
    ("ids", "settings", "found"),
    [
        ((0, 1, 2), {}, ("error", "off by one")),
        ((0, 1, 2), {"reduce_labels": True}, None),
        ((0, 1), {"reduce_labels": True}, ("warning", "off by one")),
        ((0, 255), {}, ("error", "binary masks")),
        ((0, 255), {"limit": 2}, ("warning", "binary masks")),  # among few of many pairs that may be chance
        ((0,), {"reduce_labels": True}, ("error", "nothing labelled")),
        ((0,), {}, ("warning", "absent classes")),
    ],
)
def test_faults_of_all_ids_together(two_class_folder, ids, settings, found):
    write_annotations(two_class_folder, *ids)
    kinds = kinds_of(check_folder(two_class_folder, **settings))
    assert found in kinds if found else not kinds


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_wide_ids_are_counted(two_class_folder, dtype):
    write_annotations(two_class_folder, 1, 60000, suffix=".tif", dtype=dtype)
    check = check_folder(two_class_folder)
    assert check.classes[1].pixels == 36
    assert "60000" in check.errors[0].message


def test_colours_say_nothing_about_classes(two_class_folder, annotations):
    for name in "abc":
        write_image(annotations / f"{name}.png")
    check = check_folder(two_class_folder)
    assert kinds_of(check) == {("error", "colours for ids")}
    assert not check_folder(two_class_folder, "val", check).findings


def test_files_that_are_never_decoded(two_class_folder, images, annotations, postscript):
    """PostScript would be run, and a pipe waited for; a folder is no file, whatever it is called."""
    for file in (images / "a.jpg", annotations / "b.png"):
        file.write_bytes(postscript.read_bytes())
    (images / "c.jpg").unlink()
    os.mkfifo(images / "c.jpg")
    (images / "d.jpg").mkdir()
    (finding,) = check_folder(two_class_folder).errors
    assert (finding.kind, finding.count) == ("unreadable file", 3)
    assert all(name in str(finding) for name in ("a.jpg", "b.png", "c.jpg"))


def test_exif_of_images_and_annotations(two_class_folder, images, annotations):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = np.zeros((6, 4), dtype=np.uint8)
    turned[0] = 1  # the upper row of it is the right column
    Image.fromarray(turned).save(annotations / "a.png", exif=exif)
    write_image(images / "b.jpg", exif=b"Exif\0\0no such thing")
    assert not check_folder(two_class_folder).errors
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).label_map.tolist() == [[0, 0, 0, 0, 0, 1]] * 4


def test_data_without_pairs(two_class_folder, tmp_path):
    load_data(two_class_folder, "train").rows.select([]).to_parquet(tmp_path / "train.parquet")
    streamed = load_data(tmp_path, "train", id2label={0: "ground", 1: "sky"}, streaming=True)
    assert kinds_of(check_data(streamed, show_progress=False)) == {("error", "no data")}


def test_classes_absent_from_train(two_class_folder):
    write_annotations(two_class_folder, 0)
    for other in (check_folder(two_class_folder), load_data(two_class_folder, "train")):
        check = check_folder(two_class_folder, "val", other)
        assert kinds_of(check) == {("warning", "absent from train")}
        assert "(sky)" in check.warnings[0].message
    # what validation lacks is no matter where training has it
    write_annotations(two_class_folder, 0, 1)
    write_annotation(two_class_folder / "val" / "annotations" / "d.png", ids=(0,))
    assert not check_folder(two_class_folder, "val", check_folder(two_class_folder)).findings


def test_first_masks_stop_training_on_errors_and_give_warnings(two_class_folder, annotations):
    write_annotation(annotations / "a.png", ids=(255,))
    write_annotation(annotations / "b.png", ids=(1,))
    write_annotation(annotations / "c.png", ids=(0, 2, 9))
    # that ground is absent from two pairs is not worth a word
    (warning,) = check_first_masks(load_data(two_class_folder, "train", streaming=True), count=2)
    assert "a.png" in warning
    with pytest.raises(ValueError, match=r"(?s)first 3 pairs.*2, 9.*c\.png"):
        check_first_masks(load_data(two_class_folder, "train"))


def run_command(*arguments: object):
    return CliRunner().invoke(app, ["check-data", *map(str, arguments)])


def test_command_reports_both_splits_and_says_each_thing_once(two_class_folder, annotations, caplog):
    (annotations / "a.png").unlink()
    write_annotation(annotations / "b.png", ids=(0,))
    write_annotation(annotations / "c.png", ids=(0,))
    result = run_command(two_class_folder)
    assert result.exit_code == 0, result.output
    assert "2 pairs looked at." in result.stdout and "1 pair looked at." in result.stdout
    assert "(sky) occurs here, but not in the training pairs" in result.stdout
    assert result.output.count("has no annotation") == 1
    assert "%|" not in result.stderr  # no bar goes into a pipe
    assert all(record.levelno < logging.WARNING for record in caplog.records)


def test_command_takes_class_names(two_class_folder, tmp_path):
    (two_class_folder / "id2label.json").unlink()
    (tmp_path / "names.txt").write_text("floor\nair\n")
    result = run_command(two_class_folder, "--class-names", tmp_path / "names.txt")
    assert result.exit_code == 0 and "floor" in result.stdout
    assert run_command(two_class_folder).exit_code == 2


def test_command_passes_its_options_on(two_class_folder):
    write_annotations(two_class_folder, 0, 1, 2)
    result = run_command(two_class_folder, "--reduce-labels", "--split", "train", "--limit", "2", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report) == ["train"] and report["train"]["num_pairs"] == 2
    assert report["train"]["classes"]["1"] == {"name": "sky", "pixels": 16, "share": 1 / 3, "images": 2}


def test_command_fails_on_errors(two_class_folder):
    write_annotations(two_class_folder, 0, 9)
    result = run_command(two_class_folder, "--json", "--split", "train")
    assert result.exit_code == 1
    finding = json.loads(result.stdout)["train"]["findings"][0]
    assert (finding["severity"], finding["kind"], finding["count"]) == ("error", "unknown ids", 3)
    assert run_command(two_class_folder, "--split", "validation").exit_code == 0


def test_command_with_one_split_or_none(two_class_folder):
    (two_class_folder / "train").rename(two_class_folder / "later")
    assert list(json.loads(run_command(two_class_folder, "--json").stdout)) == ["validation"]
    (two_class_folder / "id2label.json").rename(two_class_folder / "later" / "id2label.json")
    assert list(json.loads(run_command(two_class_folder / "later", "--json").stdout)) == ["train"]


@pytest.mark.parametrize(
    "arguments", [["--dataset", "ade20"], ["--split", "test"], ["--limit", "0"], ["--image-column", "x"]]
)
def test_wrong_usage(two_class_folder, arguments):
    assert run_command(two_class_folder, *arguments).exit_code == 2


def test_counts_of_coco_stuff_equal_the_published(sample_data):
    folder = sample_data / "coco_stuff_200"
    published = json.loads((folder / "class_histogram.json").read_text())
    train, val = (load_data(folder, split, "coco-stuff-164k") for split in ("train", "val"))
    check = check_data(val, other=train, show_progress=False)
    assert check.ignored.pixels == published["val"]["void_pixels"]
    assert {
        f"{count.name} ({train_id})": [count.pixels, count.images]
        for train_id, count in check.classes.items()
        if count.images
    } == published["val"]["pixels"]
    absent = published["val"]["pixels"].keys() - published["train"]["pixels"].keys()
    assert kinds_of(check) == {("warning", "absent from train")}
    assert check.warnings[0].message.startswith(f"{len(absent)} of 171 classes (stop sign, ")
