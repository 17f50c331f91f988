# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg predict`: what lies where, and what is said about bad files."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.commands.main import app
from cgrseg_hf.inference import Segmentation, Segmenter, Video, VideoWriter
from cgrseg_hf.inference.result_paths import get_heat_map_path


@pytest.fixture(scope="module")
def model(tiny_config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    CGRSegForSemanticSegmentation(tiny_config()).save_pretrained(folder)
    CGRSegImageProcessor(size={"shortest_edge": 64, "longest_edge": 256}).save_pretrained(folder)
    return folder


@pytest.fixture
def predict(model, tmp_path, monkeypatch):
    """Run the command in a folder of its own, without touching this process's allocator."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cgrseg_hf.engines.memory.keep_freed_memory", lambda: True)

    def run(*arguments: str):
        return CliRunner().invoke(app, ["predict", *arguments, "--model", str(model), "--engine", "torch"])

    return run


def save_photo(path: Path, width: int = 90, height: int = 70) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)


def files_in(folder: str) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in Path(folder).rglob("*") if file.is_file())


def test_three_files_for_each_photo(predict, model):
    save_photo(Path("street.jpg"))
    save_photo(Path("trip/day 1/park.png"))
    done = predict("street.jpg", "trip", "-o", "out", "--batch-size", "2")
    assert done.exit_code == 0, done.output
    assert files_in("out") == [
        "street_areas.json",
        "street_classes.png",
        "street_overlay.jpg",
        "trip/day 1/park_areas.json",
        "trip/day 1/park_classes.png",
        "trip/day 1/park_overlay.jpg",
    ]
    assert (
        done.stdout.strip().splitlines()[-1]
        == "2 of 2 photos are segmented. The overlays, classes and areas are in out"
    )
    segmenter = Segmenter.from_pretrained(model, "torch")
    with Image.open("out/street_classes.png") as classes:
        assert classes.mode == "P"
        np.testing.assert_array_equal(np.asarray(classes), segmenter("street.jpg").label_map)
    areas = json.loads(Path("out/street_areas.json").read_text())
    assert sum(one["share"] for one in areas["classes"]) == pytest.approx(1)


def test_photos_of_one_name_do_not_collide(predict):
    for path in ("a/x.jpg", "a/x.png", "b/x.jpg", "x.jpg"):
        save_photo(Path(path))
    save_photo(Path("c/a/y.jpg"))
    save_photo(Path("a/y.jpg"))
    done = predict("a", "x.jpg", "b/x.jpg", "c/a", "a/x.png", "-o", "out")
    assert done.exit_code == 0, done.output
    assert "6 of 6" in done.output  # a/x.png was given twice
    assert [file for file in files_in("out") if file.endswith(".json")] == [
        "a/x.jpg_areas.json",
        "a/x.png_areas.json",
        "a/y.jpg-2_areas.json",
        "a/y.jpg_areas.json",
        "x.jpg-2_areas.json",
        "x.jpg_areas.json",
    ]


def test_bad_files_are_listed_and_the_others_segmented(predict):
    save_photo(Path("in/good.jpg"))
    Path("in/bad.jpg").write_text("no picture")
    Path("in/loop.jpg").symlink_to("loop.jpg")
    Path("in/gone.jpg").symlink_to("nowhere.jpg")
    done = predict("in", "missing.jpg", "-o", "out")
    assert (done.exit_code, isinstance(done.exception, SystemExit)) == (1, True)
    for file in ("in/bad.jpg", "in/loop.jpg", "in/gone.jpg", "missing.jpg"):
        assert done.output.count(f"{file} cannot be read") == 1
    assert "1 of 5 photos are segmented" in done.stdout.strip().splitlines()[-1]
    assert len(files_in("out")) == 3
    none = predict("in/bad.jpg", "-o", "none")
    assert none.stdout.strip().splitlines()[-1] == "0 of 1 photos are segmented"


def test_results_are_not_photos(predict):
    save_photo(Path("in/photo.jpg"))
    for _ in range(2):
        assert "1 of 1" in predict("in", "-o", "in/out").output
    assert len(files_in("in/out")) == 3
    refused = predict("in/out", "-o", "in/out")
    assert refused.exit_code == 2
    assert "There are no photos but those in the output folder in/out." in refused.output


def test_the_longest_names(predict):
    for name in ("x" * 251, "é" * 124 + "a", "é" * 124 + "b"):
        save_photo(Path(f"in/{name}.jpg"))
    done = predict("in", "-o", "out")
    assert done.exit_code == 0, done.output
    assert len(files_in("out")) == 9


@pytest.mark.parametrize("arguments", [("--heat-map", "LABEL_1", "--heat-map", "LABEL_3"), ("--tile", "64")])
def test_a_photo_is_opened_once(predict, arguments):
    """Overlays and heat maps are drawn over the pixels that were segmented."""
    save_photo(Path("photo.jpg"))
    opened: list[str] | None = []

    def note(event, values):  # stays until Python ends
        if event == "open" and opened is not None:
            opened.append(str(values[0]))

    sys.addaudithook(note)
    done = predict("photo.jpg", "-o", "out", *arguments)
    photos, opened = opened.count("photo.jpg"), None
    assert done.exit_code == 0, done.output
    assert photos == 1


def test_an_interruption_says_what_is_finished(predict, monkeypatch):
    for name in "abc":
        save_photo(Path(f"in/{name}.jpg"))
    overlay = Segmentation.overlay

    def interrupt_at_second(segmentation, **settings):
        if segmentation.source.name == "b.jpg":
            raise KeyboardInterrupt
        return overlay(segmentation, **settings)

    monkeypatch.setattr(Segmentation, "overlay", interrupt_at_second)
    done = predict("in", "-o", "out")
    assert done.exit_code == 130
    assert "Stopped after 1 of 3 photos. What is finished is in out" in done.output
    assert {Path(file).name[0] for file in files_in("out")} == {"a"}


def test_json_with_names_that_are_not_text(model, tmp_path):
    """As a process: what is printed depends on its streams."""
    good, bad = (tmp_path / os.fsdecode(name) for name in (b"in/good \xff.jpg", b"in/bad\n\xfe.jpg"))
    save_photo(good)
    bad.write_text("no picture")
    command = [sys.executable, "-m", "cgrseg_hf", "predict", "in", "-o", "out", "--json", "--engine", "torch"]
    ended = subprocess.run([*command, "--model", str(model)], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1, ended.stderr
    printed = json.loads(ended.stdout)
    (result,), (error,) = printed["results"], printed["errors"]
    assert os.fsencode(result["source"]) == b"in/good \xff.jpg" and "bad" in error
    assert (result["height"], result["width"]) == (70, 90)
    assert all((tmp_path / file).is_file() for file in result["files"].values())
    lines = [line for line in ended.stderr.splitlines() if "cannot be read" in line]
    assert len(lines) == 1 and r"bad\n\udcfe.jpg cannot be read" in lines[0]


def test_videos_and_a_photo(predict, model):
    """The overlay is a video of as many frames, and each frame's classes are those of the Segmenter."""
    pytest.importorskip("av")
    frames = [np.full((64, 96, 3), 40 * index, dtype=np.uint8) for index in range(4)]
    with VideoWriter("clip.mp4", Fraction(10)) as writer:
        for frame in frames:
            writer.write(frame)
    save_photo(Path("street.jpg"))
    Path("out/clip_classes").mkdir(parents=True)
    Path("out/clip_classes/000004.png").touch()  # of an earlier, longer video
    Path("broken.mp4").write_text("no video")
    done = predict("broken.mp4", "clip.mp4", "street.jpg", "-o", "out", "--heat-map", "LABEL_1")
    assert done.exit_code == 1, done.output
    assert "broken.mp4 cannot be read as a video" in done.stderr
    assert "2 of 3 photos and videos" in done.output
    assert "Heat maps are drawn of the photos alone" in done.stderr
    names = [f"clip_classes/{index:06}.png" for index in range(4)]
    assert files_in("out") == [
        "clip_areas.json",
        *names,
        "clip_overlay.mp4",
        "street_areas.json",
        "street_classes.png",
        "street_heat-LABEL_1.jpg",
        "street_overlay.jpg",
    ]
    assert [frame.shape for frame in Video("out/clip_overlay.mp4")] == [(64, 96, 3)] * 4
    segmentations = list(Segmenter.from_pretrained(model, "torch")(Video("clip.mp4")))
    for name, segmentation in zip(names, segmentations):
        assert np.array_equal(np.asarray(Image.open(Path("out") / name)), segmentation.label_map)
    areas = json.loads(Path("out/clip_areas.json").read_text())
    assert [frame["time"] for frame in areas["frames"]] == [0, 0.1, 0.2, 0.3]
    assert [frame["shares"] for frame in areas["frames"]] == [one.area_shares for one in segmentations]
    assert sum(areas["mean_shares"].values()) == pytest.approx(1)


def test_heat_maps_of_named_classes(predict):
    save_photo(Path("in/photo.jpg"))
    done = predict("in", "-o", "out", "--heat-map", "LABEL_3", "--heat-map", "LABEL_1", "--json")
    assert done.exit_code == 0, done.output
    assert [name for name in files_in("out") if "heat" in name] == [
        "in/photo_heat-LABEL_1.jpg",
        "in/photo_heat-LABEL_3.jpg",
    ]
    refused = predict("in", "-o", "out", "--heat-map", "LABEL3")
    assert "Did you mean LABEL_3?" in str(refused.exception)
    refused = predict("in", "-o", "out", "--heat-map", "LABEL_3", "--tile", "64")
    assert "--heat-map cannot be used with --tile" in refused.output


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("traffic light", "photo_heat-traffic-light-1.jpg"),
        ("../x", "photo_heat--x-1.jpg"),
        ("a" * 300, f"photo_heat-{'a' * 32}-1.jpg"),
    ],
)
def test_class_names_stay_in_the_output_folder(tmp_path, name, file):
    assert get_heat_map_path(tmp_path / "photo", name, 1) == tmp_path / file


def test_windows(predict):
    pytest.importorskip("rasterio")
    save_photo(Path("photo.png"), 200, 150)
    Image.open("photo.png").save("large.tif")
    done = predict("photo.png", "large.tif", "-o", "out", "--tile", "96", "--overlap", "32", "--scale", "0.8")
    assert done.exit_code == 0, done.output
    assert files_in("out") == [
        "large_areas.json",
        "large_classes.tif",
        "large_overlay.jpg",
        "photo_areas.json",
        "photo_classes.png",
        "photo_overlay.jpg",
    ]
    with Image.open("out/large_classes.tif") as one, Image.open("out/photo_classes.png") as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_options_reach_the_segmenter(predict):
    save_photo(Path("photo.png"), 200, 150)
    assert predict("photo.png", "-o", "small", "--size", "32").exit_code == 0
    assert predict("photo.png", "-o", "usual", "--precision", "bfloat16").exit_code == 0
    assert Path("small/photo_classes.png").read_bytes() != Path("usual/photo_classes.png").read_bytes()
    refused = predict("photo.png", "-o", "out", "--max-pixels", "100")
    assert refused.exit_code == 1
    assert "more than max_pixels=100" in refused.output


def test_mistakes_in_words(predict):
    save_photo(Path("photo.png"))
    Path("empty").mkdir()
    no_photos = predict("empty")
    assert no_photos.exit_code == 2
    assert "no images" in " ".join(no_photos.output.split())
    refused = predict("photo.png", "--tile", "5", "-o", "out")
    assert isinstance(refused.exception, ValueError) and "tile=5" in str(refused.exception)
    assert not Path("out").exists()
    without_tile = predict("photo.png", "--overlap", "20")
    assert without_tile.exit_code == 2
    assert "--overlap: windows come with --tile" in without_tile.output
    assert "is a file: name a folder" in predict("photo.png", "-o", "photo.png").output
    assert "see --scale" in predict("photo.png", "--tile", "64", "--size", "64").output
    told = json.loads(predict("phto.png", "--json").stdout)
    assert told["results"] == [] and "phto.png cannot be read" in told["errors"][0]
    missing = predict("phto.png")
    assert "phto.png cannot be read" in str(missing.exception)
    assert "Did you mean photo.png?" in str(missing.exception)


def test_what_a_cluster_does_not_take(predict):
    refused = predict("photos", "--cluster", "local", "--tile", "512")
    assert refused.exit_code == 2
    assert "--tile cannot be used with --cluster" in refused.output
    assert predict("a", "b", "--cluster", "local").exit_code == 2


@pytest.mark.long
def test_on_a_cluster(predict):
    pytest.importorskip("ray")
    save_photo(Path("photos/street.jpg"))
    Path("photos/broken.jpg").write_bytes(b"no picture")
    first = predict("photos", "-o", "out", "--cluster", "local")
    assert first.exit_code == 1
    assert "2 photos were looked at, 1 of them could not be read" in first.output
    again = predict("photos", "-o", "out", "--cluster", "local")
    assert again.exit_code == 0
    assert "1 of 1 shards had been finished before" in again.output
    assert [Path(file).suffix for file in files_in("out")] == [".parquet", ".json"]


def test_results_of_a_cluster_may_go_to_a_bucket(predict, monkeypatch):
    """An address stays one: as a path it would lose a slash, and be a folder of each machine's own."""
    asked = []

    def segment_on_cluster(source, output, *arguments, **options):
        asked.append(output)
        raise ValueError("far enough")

    monkeypatch.setattr("cgrseg_hf.cluster.segment_on_cluster", segment_on_cluster)
    predict("in", "-o", "s3://bucket/labels", "--cluster", "local")
    assert asked == ["s3://bucket/labels"]
