# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What is found in data before training, and that whatever is wrong with one pair leaves the others looked at."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from cgrseg_hf.commands.check_data import check_data as check_data_command
from cgrseg_hf.data import DataCheck, check_data, check_first_masks, load_data


def kinds_of(check: DataCheck) -> set[tuple[str, str]]:
    return {(finding.severity, finding.kind) for finding in check.findings}


def check_folder(folder, split="train", other=None, limit=None, **settings) -> DataCheck:
    return check_data(load_data(folder, split, **settings), limit, other, show_progress=False)


def write_annotations(folder, *ids, dtype=np.uint8) -> None:
    """Write those of the folder's pairs a, b, c, each with the ids."""
    for name in "abc":
        values = np.resize(np.array(ids, dtype=dtype), (4, 6))
        Image.fromarray(values).save(folder / "train" / "annotations" / f"{name}.png")


@pytest.mark.parametrize("streaming", [False, True])
def test_classes_are_counted(two_class_folder, write_annotation, streaming):
    annotations = two_class_folder / "train" / "annotations"
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
    lines = [line.split() for line in str(check).splitlines()]
    assert ["1", "sky", "66.667", "3"] in lines
    assert "0–1 → 0–1, 255 → ignored" in str(check) and "Errors: none" in str(check)


def test_limit(two_class_folder):
    assert [check_folder(two_class_folder, limit=limit).num_pairs for limit in (1, 3, 9)] == [1, 3, 3]
    assert [check_folder(two_class_folder, limit=limit).is_complete for limit in (1, 3, 9)] == [False, True, True]
    assert "1 pair looked at, not all" in str(check_folder(two_class_folder, limit=1))
    with pytest.raises(ValueError, match="limit=0"):
        check_folder(two_class_folder, limit=0)


def test_every_bad_file_is_found_and_good_ones_counted(two_class_folder, write_pair, write_annotation, write_image):
    images, annotations = two_class_folder / "train" / "images", two_class_folder / "train" / "annotations"
    for name in "defghi":
        write_pair(images / f"{name}.jpg", annotations / f"{name}.png")
    (images / "a.jpg").write_bytes((images / "a.jpg").read_bytes()[:300])
    (annotations / "b.png").write_bytes(b"")
    write_annotation(annotations / "c.png", size=(7, 4))
    write_image(annotations / "d.png")
    write_annotation(annotations / "e.png", ids=(0, 2, 9))
    write_annotation(annotations / "f.png", ids=(255,))
    write_image(images / "lone.jpg")
    check = check_folder(two_class_folder)
    assert kinds_of(check) == {
        ("error", "unreadable file"),
        ("error", "different sizes"),
        ("error", "colours for ids"),
        ("error", "unknown ids"),
        ("warning", "unlabelled image"),
        ("warning", "left out"),
    }
    assert check.findings == [*check.errors, *check.warnings]
    found = {finding.kind: finding for finding in check.findings}
    assert found["unreadable file"].count == 2
    assert ["a.jpg" in file or "b.png" in file for file in found["unreadable file"].files] == [True, True]
    assert "c.jpg (6×4)" in found["different sizes"].files[0] and "c.png (7×4)" in found["different sizes"].files[0]
    assert "d.png (RGB)" in found["colours for ids"].files[0]
    assert "e.png (2, 9)" in found["unknown ids"].files[0] and "2, 9" in found["unknown ids"].message
    assert "f.png" in found["unlabelled image"].files[0]
    assert "lone" in found["left out"].message
    assert all(finding.remedy for finding in check.errors)
    assert check.num_pairs == 9
    # a, g, h, i whole; c, of the wrong size, too; of e the known third
    assert check.classes[1].images == 5
    assert check.classes[0].images == 6


def test_only_the_first_files_are_named(two_class_folder, write_pair):
    for index in range(7):
        write_pair(
            two_class_folder / "train" / "images" / f"x{index}.jpg",
            two_class_folder / "train" / "annotations" / f"x{index}.png",
            ids=(0, 40),
        )
    (finding,) = check_folder(two_class_folder).errors
    assert (len(finding.files), finding.count) == (3, 7)
    assert "x2.png (40), and 4 more." in str(finding)


def test_ids_counted_from_1(two_class_folder):
    write_annotations(two_class_folder, 0, 1, 2)
    (finding,) = check_folder(two_class_folder).errors
    assert finding.kind == "off by one" and "Set reduce_labels (--reduce-labels)" in finding.remedy
    with pytest.raises(ValueError, match=r"counted from 1.*--label-ids void-first"):
        data = load_data(two_class_folder, "train")
        data.read(data.rows[0])
    assert not check_folder(two_class_folder, reduce_labels=True).findings


def test_ids_counted_from_0_but_reduced(two_class_folder):
    write_annotations(two_class_folder, 0, 1)
    check = check_folder(two_class_folder, reduce_labels=True)
    assert ("warning", "off by one") in kinds_of(check)
    assert "set reduce_labels to false" in str(check)


def test_binary_masks(two_class_folder):
    write_annotations(two_class_folder, 0, 255)
    check = check_folder(two_class_folder)
    assert ("error", "binary masks") in kinds_of(check) and "write 1 for it" in str(check)
    # among few of many pairs that may be chance
    assert ("warning", "binary masks") in kinds_of(check_folder(two_class_folder, limit=2))


def test_everything_ignored(two_class_folder):
    write_annotations(two_class_folder, 0)
    assert ("error", "nothing labelled") in kinds_of(check_folder(two_class_folder, reduce_labels=True))


def test_colours_say_nothing_about_classes(two_class_folder, write_image):
    for name in "abc":
        write_image(two_class_folder / "train" / "annotations" / f"{name}.png")
    check = check_folder(two_class_folder)
    assert kinds_of(check) == {("error", "colours for ids")}
    assert not check_folder(two_class_folder, "val", check).findings


def test_a_file_that_is_no_picture_is_described_in_words(two_class_folder):
    (two_class_folder / "train" / "images" / "a.jpg").write_bytes(b"words")
    (finding,) = check_folder(two_class_folder).errors
    assert "a.jpg (it is not a JPEG" in str(finding)


def test_files_that_are_never_decoded(two_class_folder, monkeypatch):
    """PostScript would be run, and a pipe waited for; a folder is no file, whatever it is called."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    images, annotations = two_class_folder / "train" / "images", two_class_folder / "train" / "annotations"
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n%%EndComments\nshowpage\n%%EOF\n"
    (images / "a.jpg").write_bytes(postscript)
    (annotations / "b.png").write_bytes(postscript)
    (images / "c.jpg").unlink()
    os.mkfifo(images / "c.jpg")
    (images / "d.jpg").mkdir()
    (finding,) = check_folder(two_class_folder).errors
    assert (finding.kind, finding.count) == ("unreadable file", 3)
    assert "a.jpg (it is not a JPEG" in str(finding) and "b.png (it is not a JPEG" in str(finding)
    assert "It is a pipe or a device" in str(finding)


def test_broken_exif_is_no_broken_picture(two_class_folder, write_image):
    write_image(two_class_folder / "train" / "images" / "a.jpg", exif=b"Exif\0\0no such thing")
    assert not check_folder(two_class_folder).errors
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).image.size == (6, 4)


def test_annotations_are_turned_as_their_exif_says(two_class_folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = np.zeros((6, 4), dtype=np.uint8)
    turned[0] = 1  # the upper row of it is the right column
    Image.fromarray(turned).save(two_class_folder / "train" / "annotations" / "a.png", exif=exif)
    assert not check_folder(two_class_folder).errors
    data = load_data(two_class_folder, "train")
    assert data.read(data.rows[0]).label_map.tolist() == [[0, 0, 0, 0, 0, 1]] * 4


def test_images_without_brightness_are_found(two_class_folder):
    values = np.full((4, 6), 0.5, dtype=np.float32)
    values[2, 3] = np.nan
    images = two_class_folder / "train" / "images"
    (images / "a.jpg").unlink()
    Image.fromarray(values).save(images / "a.tif")
    (finding,) = check_folder(two_class_folder).errors
    assert "a.tif (it holds values that are not finite" in str(finding)
    data = load_data(two_class_folder, "train")
    with pytest.raises(ValueError, match=r"a\.tif cannot be read \(it holds values that are not finite"):
        data.read(data.rows[0])


def test_names_that_are_no_text(two_class_folder, write_pair):
    name = os.fsdecode(b"\xff\n")
    train = two_class_folder / "train"
    write_pair(train / "images" / f"{name}.jpg", train / "annotations" / f"{name}.png")
    with pytest.raises(ValueError, match=r"\\udcff\\n\.(jpg|png) is no UTF-8.*: rename it"):
        load_data(two_class_folder, "train")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_wide_ids_are_counted(two_class_folder, dtype):
    for annotation in (two_class_folder / "train" / "annotations").iterdir():
        annotation.unlink()
        Image.fromarray(np.resize(np.array([1, 60000], dtype=dtype), (4, 6))).save(annotation.with_suffix(".tif"))
    check = check_folder(two_class_folder)
    assert check.classes[1].pixels == 36
    assert "60000" in check.errors[0].message


def test_data_without_pairs(two_class_folder, tmp_path):
    load_data(two_class_folder, "train").rows.select([]).to_parquet(tmp_path / "train.parquet")
    streamed = load_data(tmp_path, "train", id2label={0: "ground", 1: "sky"}, streaming=True)
    assert kinds_of(check_data(streamed, show_progress=False)) == {("error", "no data")}
    with pytest.raises(ValueError, match=r"There are no pairs\. Check the split"):
        check_first_masks(streamed)


def test_absent_classes(two_class_folder, write_annotation):
    write_annotations(two_class_folder, 0)
    train = check_folder(two_class_folder)
    assert kinds_of(train) == {("warning", "absent classes")}
    assert "1 of 2 classes (sky) never occurs in" in train.warnings[0].message
    for other in (train, load_data(two_class_folder, "train")):
        check = check_folder(two_class_folder, "val", other)
        assert kinds_of(check) == {("warning", "absent from train")}
        assert "(sky)" in check.warnings[0].message
    # what validation lacks is no matter where training has it
    write_annotations(two_class_folder, 0, 1)
    write_annotation(two_class_folder / "val" / "annotations" / "d.png", ids=(0,))
    assert not check_folder(two_class_folder, "val", check_folder(two_class_folder)).findings


def test_first_masks_stop_training_on_errors(two_class_folder, write_annotation):
    write_annotation(two_class_folder / "train" / "annotations" / "b.png", ids=(0, 2, 9))
    with pytest.raises(ValueError, match=r"(?s)first 3 pairs of .*hold ids that no class has: 2, 9.*b\.png"):
        check_first_masks(load_data(two_class_folder, "train"))
    assert check_first_masks(load_data(two_class_folder, "train"), count=1) == []


def test_first_masks_give_warnings(two_class_folder, write_annotation):
    write_annotation(two_class_folder / "train" / "annotations" / "a.png", ids=(255,))
    write_annotation(two_class_folder / "train" / "annotations" / "b.png", ids=(1,))
    data = load_data(two_class_folder, "train", streaming=True)
    # that ground is absent from two pairs is not worth a word
    (warning,) = check_first_masks(data, count=2)
    assert "no labelled pixel" in warning and "a.png" in warning


def run_command(*arguments: str):
    app = typer.Typer()
    app.command()(check_data_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_reports_both_splits(two_class_folder):
    result = run_command(two_class_folder)
    assert result.exit_code == 0, result.output
    assert "train: " in result.stdout and "validation: " in result.stdout
    assert "3 pairs looked at." in result.stdout and "1 pair looked at." in result.stdout


def test_command_compares_validation_with_train(two_class_folder):
    write_annotations(two_class_folder, 0)
    result = run_command(two_class_folder)
    assert result.exit_code == 0
    assert "(sky) occurs here, but not in the training pairs" in result.stdout


def test_command_says_each_thing_once_and_draws_no_bar_into_a_pipe(two_class_folder):
    (two_class_folder / "train" / "annotations" / "a.png").unlink()
    command = [sys.executable, "-m", "cgrseg_hf", "check-data", str(two_class_folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.stdout + ended.stderr).count("has no annotation") == 1
    assert "%|" not in ended.stderr


def test_command_takes_class_names(two_class_folder, tmp_path):
    (two_class_folder / "id2label.json").unlink()
    (tmp_path / "names.txt").write_text("floor\nair\n")
    result = run_command(two_class_folder, "--class-names", tmp_path / "names.txt")
    assert result.exit_code == 0 and "floor" in result.stdout
    assert run_command(two_class_folder).exit_code == 2


def test_command_fails_on_errors(two_class_folder):
    write_annotations(two_class_folder, 0, 1, 2)
    result = run_command(two_class_folder)
    assert result.exit_code == 1
    assert "ids are probably counted from 1" in result.stdout
    assert run_command(two_class_folder, "--split", "validation").exit_code == 0


def test_command_passes_its_options_on(two_class_folder):
    write_annotations(two_class_folder, 0, 1, 2)
    result = run_command(two_class_folder, "--reduce-labels", "--split", "train", "--limit", "2", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert list(report) == ["train"]
    assert report["train"]["num_pairs"] == 2
    assert report["train"]["classes"]["1"] == {"name": "sky", "pixels": 16, "share": 1 / 3, "images": 2}


def test_command_json_of_errors(two_class_folder):
    write_annotations(two_class_folder, 0, 9)
    result = run_command(two_class_folder, "--json", "--split", "train")
    assert result.exit_code == 1
    (finding,) = [
        finding for finding in json.loads(result.stdout)["train"]["findings"] if finding["severity"] == "error"
    ]
    assert finding["kind"] == "unknown ids" and finding["count"] == 3


def test_command_looks_once_at_data_without_splits(tmp_path, write_pair):
    write_pair(tmp_path / "images" / "a.jpg", tmp_path / "masks" / "a.png")
    (tmp_path / "classes.txt").write_text("ground\nsky\n")
    assert list(json.loads(run_command(tmp_path, "--json").stdout)) == ["train"]


def test_command_with_one_split_only(two_class_folder):
    (two_class_folder / "train").rename(two_class_folder / "later")
    assert list(json.loads(run_command(two_class_folder, "--json").stdout)) == ["validation"]


@pytest.mark.parametrize(
    "arguments", [["--dataset", "ade20"], ["--split", "test"], ["--limit", "0"], ["--image-column", "x"], ["--nothing"]]
)
def test_wrong_usage(two_class_folder, arguments):
    assert run_command(two_class_folder, *arguments).exit_code == 2


def test_missing_folder_is_wrong_usage(tmp_path):
    assert run_command(tmp_path / "nowhere").exit_code == 2


@pytest.mark.parametrize("split", ["train", "val"])
def test_counts_of_camvid_equal_the_published(sample_data, split):
    data = load_data(sample_data / "camvid", split, "camvid", label_ids="void-first")
    published = json.loads((sample_data / "camvid" / "class_histogram.json").read_text())[split]
    check = check_data(data, show_progress=False)
    assert not check.findings
    assert check.num_pairs == published["images"]
    counts = check.classes.values()
    assert {count.name: count.pixels for count in counts} == published["pixels_by_reduced_id"]
    images = {**published["images_with_class"]}
    assert (check.ignored.pixels, check.ignored.images) == (published["void_pixels"], images.pop("void"))
    assert {count.name: count.images for count in counts} == images


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
