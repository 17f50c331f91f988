# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Segmentations: areas, overlays, files, and the forms that other tools take."""

import io
import json
import sys

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
    twins = Segmentation(label_map, {0: "sky", 2: "sky"})  # of one name, with a gap in the ids
    assert twins.area_shares == {"sky": 1.0} and twins.pixel_counts.tolist() == [150, 0, 450]


def test_files_hold_ids_and_colours(label_map, tmp_path):
    segmentation = Segmentation(label_map, NAMES)
    np.testing.assert_array_equal(np.load(segmentation.save(tmp_path / "npy" / "map.npy")), label_map)
    areas = json.loads(segmentation.save(tmp_path / "json" / "areas.json").read_text())
    assert (areas["height"], areas["width"]) == (20, 30)
    assert areas["classes"][0] == {"id": 2, "name": "sky", "pixels": 450, "share": 0.75}
    pytest.importorskip("rasterio")
    for file in ("png/map.png", "tif/map.tif"):
        with Image.open(segmentation.save(tmp_path / file)) as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.asarray(image), label_map)
            assert np.asarray(image.convert("RGB"))[0, 0].tolist() == list(class_color(2))
    with pytest.raises(ValueError, match=r"map\.jpg.*\.png.*overlay"):
        segmentation.save(tmp_path / "map.jpg")
    assert not (tmp_path / "map.jpg").exists()


def test_known_classes_have_their_usual_colours_in_files(tmp_path):
    ade20k = get_description("ade20k")
    segmentation = Segmentation(np.arange(150, dtype=np.uint8)[None], ade20k.id2label)
    with Image.open(segmentation.save(tmp_path / "classes.png")) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB"))[0], ade20k.palette)


def test_more_than_256_classes(tmp_path):
    label_map = np.array([[0, 255, 256, 299]], dtype=np.uint16)
    segmentation = Segmentation(label_map, {class_id: str(class_id) for class_id in range(300)})
    assert segmentation.area_shares["299"] == 0.25
    with Image.open(segmentation.save(tmp_path / "map.png")) as image:
        np.testing.assert_array_equal(np.asarray(image), label_map)
    overlay = np.asarray(segmentation.overlay(Image.new("RGB", (4, 1)), opacity=1.0))
    assert overlay[0, 3].tolist() == list(class_color(299))


def test_overlay_of_a_photo_that_is_passed(label_map, tmp_path):
    segmentation = Segmentation(label_map, NAMES)
    photo = Image.new("RGB", (30, 20), (100, 100, 100))
    photo.save(tmp_path / "photo.png")
    overlay = np.asarray(segmentation.overlay(photo, opacity=1.0))
    assert overlay[5, 5].tolist() == list(class_color(2))
    for source in (tmp_path / "photo.png", np.asarray(photo)):
        np.testing.assert_array_equal(np.asarray(segmentation.overlay(source, opacity=1.0)), overlay)
    bare = segmentation.overlay(photo, opacity=1.0, legend=False)
    assert bare.size == photo.size
    np.testing.assert_array_equal(overlay[:20, :30], np.asarray(bare))
    other = segmentation.overlay(photo, opacity=1.0, colors="colorblind")
    assert np.asarray(other)[5, 5].tolist() == [0, 158, 115]


def test_impossible_overlays(label_map):
    segmentation = Segmentation(label_map, NAMES)
    photo = Image.new("RGB", (30, 20))
    for arguments, message in (
        ({}, "pass it"),
        ({"photo": photo.resize((31, 20))}, "pass the photo that was"),
        ({"photo": photo.resize((29, 20))}, r"height and width \(20, 29\), but the segmentation \(20, 30\)"),
        ({"photo": photo, "opacity": 2}, "opacity=2"),
        ({"photo": photo, "max_side": 0}, "max_side=0"),
    ):
        with pytest.raises(ValueError, match=message):
            segmentation.overlay(**arguments)


@pytest.mark.parametrize(
    "photo",
    [
        np.full((3, 20, 30), 100, dtype=np.uint8),
        np.full((20, 30), 100, dtype=np.uint8),
        np.full((20, 30, 3), 100.0, dtype=np.float32),
        np.full((20, 30), 100 * 257, dtype=np.uint16),
    ],
)
def test_overlay_of_an_array_that_was_segmented(segmenter, photo):
    overlay = np.asarray(segmenter(photo).overlay(opacity=0.0))
    assert overlay[10, 10].tolist() in ([100] * 3, [255] * 3)  # white are outlines
    assert (overlay[:20, :30] == 100).all(axis=2).mean() > 0.5


@pytest.mark.parametrize("tile", [None, 64])
def test_overlay_of_a_file_that_was_segmented(segmenter, make_photo, tmp_path, tile):
    """The file is read again, unless the photo was kept."""
    make_photo(200, 100).save(tmp_path / "photo.png")
    segmentation = segmenter(tmp_path / "photo.png", tile=tile)
    overlay = segmentation.overlay()
    assert overlay.width > 200 and overlay.height >= 100
    small = np.asarray(segmentation.overlay(max_side=100, opacity=0.0))
    photo = np.asarray(make_photo(200, 100))[::2, ::2]
    assert ((small[:50, :100] == photo) | (small[:50, :100] == 255)).all()
    kept = segmenter(tmp_path / "photo.png", tile=tile, return_photo=True)
    (tmp_path / "photo.png").unlink()
    np.testing.assert_array_equal(np.asarray(kept.overlay()), np.asarray(overlay))
    with pytest.raises(ValueError, match="no such file"):
        segmentation.overlay()


def test_notebooks_show_the_overlay(segmenter, make_photo, tmp_path):
    make_photo(200, 100).save(tmp_path / "photo.png")
    segmentation = segmenter(tmp_path / "photo.png")
    with Image.open(io.BytesIO(segmentation._repr_png_())) as shown:
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(segmentation.overlay()))
    photo = Image.new("RGB", (5000, 30))
    large = Segmentation(np.zeros((30, 5000), dtype=np.uint8), NAMES, read_photo=photo.reduce)
    with Image.open(io.BytesIO(large._repr_png_())) as shown:
        assert 1000 <= shown.width <= 1300
    (tmp_path / "photo.png").unlink()  # the colours alone are shown then
    with Image.open(io.BytesIO(segmentation._repr_png_())) as shown:
        colors = {tuple(color) for color in np.asarray(shown)[:100, :200].reshape(-1, 3)}
    assert {class_color(class_id) for class_id in segmentation.class_ids} <= colors


@pytest.fixture
def intricate() -> np.ndarray:
    """Several parts of each class, holes with islands in them, lines of one pixel, and parts that touch at corners."""
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (9, 12), dtype=np.uint8)).resize((96, 72), Image.Resampling.BICUBIC)
    label_map = (np.asarray(smooth) // 90).astype(np.uint8)
    label_map[10:40, 20:50] = 0
    label_map[15:35, 25:45] = 1
    label_map[20:30, 30:40] = 0
    label_map[24:26, 34:36] = 2
    label_map[50, 5:60] = label_map[5:60, 70] = 2
    label_map[60, 60] = label_map[61, 61] = 0
    label_map[rng.random(label_map.shape) < 0.02] = 1
    return label_map


def test_masks_also_of_a_file(intricate, tmp_path):
    file = tmp_path / "map.npy"
    np.save(file, intricate)
    class_ids, masks = Segmentation(file, NAMES, size=intricate.shape).to_masks()
    assert masks.dtype == bool and masks.shape == (3, 72, 96)
    for class_id, mask in zip(class_ids, masks):
        np.testing.assert_array_equal(mask, intricate == class_id)
    assert masks.sum(axis=(1, 2)).tolist() == sorted(masks.sum(axis=(1, 2)).tolist(), reverse=True)


def test_polygons_hold_every_part_and_hole(intricate):
    features = pytest.importorskip("rasterio.features")
    segmentation = Segmentation(intricate, NAMES)
    polygons = segmentation.to_polygons()
    assert list(polygons) == segmentation.class_ids
    for class_id, of_class in polygons.items():
        mask = intricate == class_id
        geometries = [
            {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()] for ring in polygon]}
            for polygon in of_class
        ]
        np.testing.assert_array_equal(features.rasterize(geometries, out_shape=mask.shape), mask)
        # The area of an outline less that of its holes is the number of pixels, exactly.
        areas = [area_of(polygon[0]) - sum(map(area_of, polygon[1:])) for polygon in of_class]
        assert sum(areas) == mask.sum() and min(areas) >= 1
    label_map = np.zeros((9, 8), dtype=np.uint8)
    label_map[5, 3] = 1
    ((ring,),) = Segmentation(label_map, NAMES).to_polygons()[1]
    assert sorted(map(tuple, ring.tolist())) == [(3, 5), (3, 6), (4, 5), (4, 6)]


def area_of(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_run_length_encodings(intricate):
    coco_mask = pytest.importorskip("pycocotools.mask")
    segmentation = Segmentation(intricate, NAMES)
    encodings = json.loads(json.dumps(segmentation.to_rle()))
    assert list(encodings) == [str(class_id) for class_id in segmentation.class_ids]
    for class_id, encoding in encodings.items():
        np.testing.assert_array_equal(coco_mask.decode(encoding), intricate == int(class_id))


def test_detections_for_supervision(intricate):
    supervision = pytest.importorskip("supervision")
    segmentation = Segmentation(intricate, NAMES)
    detections = segmentation.to_detections()
    assert detections.class_id.tolist() == segmentation.class_ids
    assert detections["class_name"].tolist() == [NAMES[class_id] for class_id in segmentation.class_ids]
    sky = detections[detections["class_name"] == "sky"]
    np.testing.assert_array_equal(sky.mask[0], intricate == 2)
    rows, columns = np.nonzero(intricate == 2)
    assert sky.xyxy[0].tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    scene = np.full((72, 96, 3), 100, dtype=np.uint8)
    annotated = supervision.MaskAnnotator(opacity=1.0).annotate(scene, detections)
    assert len(np.unique(annotated.reshape(-1, 3), axis=0)) == 3


def test_a_missing_package_is_named(label_map, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ImportError, match=r"package pycocotools: pip install \"cgrseg_hf\[coco\]\""):
        Segmentation(label_map, NAMES).to_rle()
