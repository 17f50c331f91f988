# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Segmentations: areas, overlays and files."""

import json

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.data import get_description
from cgrseg_hf.inference import Segmentation
from cgrseg_hf.visualization import class_color

NAMES = {0: "road", 1: "wall", 2: "sky"}


@pytest.fixture
def label_map() -> np.ndarray:
    label_map = np.zeros((20, 30), dtype=np.uint8)
    label_map[:15] = 2
    return label_map


def test_areas(label_map):
    segmentation = Segmentation(label_map, NAMES)
    assert segmentation.size == (20, 30)
    assert segmentation.class_ids == [2, 0]
    assert segmentation.pixel_counts.tolist() == [150, 0, 450]
    assert segmentation.area_shares == {"sky": 0.75, "road": 0.25}
    assert list(segmentation.area_shares) == ["sky", "road"]
    assert "20×30" in repr(segmentation) and "sky 75%" in repr(segmentation)


def test_indexed_png_holds_ids_and_colours(label_map, tmp_path):
    path = Segmentation(label_map, NAMES).save(tmp_path / "classes.png")
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), label_map)
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == list(class_color(2))


def test_known_classes_have_their_usual_colours_in_files(tmp_path):
    ade20k = get_description("ade20k")
    segmentation = Segmentation(np.arange(150, dtype=np.uint8)[None], ade20k.id2label)
    with Image.open(segmentation.save(tmp_path / "classes.png")) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB"))[0], ade20k.palette)


def test_every_file_holds_the_same_ids(label_map, tmp_path):
    segmentation = Segmentation(label_map, NAMES)
    np.testing.assert_array_equal(np.load(segmentation.save(tmp_path / "map.npy")), label_map)
    areas = json.loads(segmentation.save(tmp_path / "areas.json").read_text())
    assert (areas["height"], areas["width"]) == (20, 30)
    assert areas["classes"][0] == {"id": 2, "name": "sky", "pixels": 450, "share": 0.75}
    pytest.importorskip("tifffile")
    with Image.open(segmentation.save(tmp_path / "map.tif")) as image:
        np.testing.assert_array_equal(np.asarray(image), label_map)
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == list(class_color(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["areas.json", "map.npy", "map.tif"]


def test_files_of_more_than_256_classes(tmp_path):
    label_map = np.array([[0, 255, 256, 299]], dtype=np.uint16)
    segmentation = Segmentation(label_map, {class_id: str(class_id) for class_id in range(300)})
    assert segmentation.area_shares["299"] == 0.25
    with Image.open(segmentation.save(tmp_path / "map.png")) as image:
        np.testing.assert_array_equal(np.asarray(image), label_map)
    overlay = np.asarray(segmentation.overlay(Image.new("RGB", (4, 1)), opacity=1.0))
    assert overlay[0, 3].tolist() == list(class_color(299))


def test_formats_that_lose_detail_are_refused(label_map, tmp_path):
    with pytest.raises(ValueError, match=r"map\.jpg.*\.png.*overlay"):
        Segmentation(label_map, NAMES).save(tmp_path / "map.jpg")
    assert not list(tmp_path.iterdir())


def test_overlay(label_map):
    segmentation = Segmentation(label_map, NAMES)
    with pytest.raises(ValueError, match="pass it to overlay"):
        segmentation.overlay()
    photo = Image.new("RGB", (30, 20), (100, 100, 100))
    overlay = np.asarray(segmentation.overlay(photo, opacity=1.0))
    assert overlay[5, 5].tolist() == list(class_color(2))
    with pytest.raises(ValueError, match="must be equal"):
        segmentation.overlay(photo.resize((31, 20)))


@pytest.mark.parametrize(
    "photo",
    [
        np.full((20, 30, 3), 100, dtype=np.uint8),
        np.full((3, 20, 30), 100, dtype=np.uint8),
        np.full((20, 30), 100, dtype=np.uint8),
        np.full((20, 30, 3), 100.0, dtype=np.float32),
        np.full((20, 30), 100 * 257, dtype=np.uint16),
    ],
)
def test_overlay_of_what_was_segmented(segmenter, photo):
    overlay = np.asarray(segmenter(photo).overlay(opacity=0.0))
    assert overlay[10, 10].tolist() in ([100] * 3, [255] * 3)  # white are outlines
    assert (overlay[:20, :30] == 100).all(axis=2).mean() > 0.5


def test_overlay_reads_files_again(segmenter, make_photo, tmp_path):
    make_photo(200, 100).save(tmp_path / "photo.png")
    segmentation = segmenter(tmp_path / "photo.png")
    overlay = segmentation.overlay()
    assert overlay.width > 200 and overlay.height >= 100
    small = np.asarray(segmentation.overlay(max_side=100, opacity=0.0))
    photo = np.asarray(make_photo(200, 100))[::2, ::2]
    assert ((small[:50, :100] == photo) | (small[:50, :100] == 255)).all()
    (tmp_path / "photo.png").unlink()
    with pytest.raises(ValueError, match="no such file"):
        segmentation.overlay()
