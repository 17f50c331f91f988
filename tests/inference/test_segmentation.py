# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Segmentations: areas, overlays, files, and what other tools take."""

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
    pytest.importorskip("rasterio")
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
    with pytest.raises(ValueError, match="pass it"):
        segmentation.overlay()
    photo = Image.new("RGB", (30, 20), (100, 100, 100))
    overlay = np.asarray(segmentation.overlay(photo, opacity=1.0))
    assert overlay[5, 5].tolist() == list(class_color(2))
    with pytest.raises(ValueError, match="pass the photo that was"):
        segmentation.overlay(photo.resize((31, 20)))
    with pytest.raises(ValueError, match=r"height and width \(20, 29\), but the segmentation \(20, 30\)"):
        segmentation.overlay(photo.resize((29, 20)))


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


def test_masks(intricate):
    class_ids, masks = Segmentation(intricate, NAMES).to_masks()
    assert masks.dtype == bool and masks.shape == (3, 72, 96)
    assert (masks.sum(axis=0) == 1).all()
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
    assert any(len(polygon) > 2 for of_class in polygons.values() for polygon in of_class)


def area_of(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_polygons_are_those_that_coco_tools_take(intricate):
    pytest.importorskip("rasterio")
    coco_mask = pytest.importorskip("pycocotools.mask")

    def decode(ring: np.ndarray) -> np.ndarray:
        return coco_mask.decode(coco_mask.frPyObjects([ring.ravel().tolist()], *intricate.shape))[..., 0].astype(bool)

    for class_id, polygons in Segmentation(intricate, NAMES).to_polygons().items():
        mask = np.zeros(intricate.shape, dtype=bool)
        for outline, *holes in polygons:
            part = decode(outline)
            for hole in holes:
                part &= ~decode(hole)
            mask |= part
        np.testing.assert_array_equal(mask, intricate == class_id)


def test_corners_of_a_polygon():
    pytest.importorskip("rasterio")
    label_map = np.zeros((9, 8), dtype=np.uint8)
    label_map[5, 3] = 1
    ((ring,),) = Segmentation(label_map, NAMES).to_polygons()[1]
    assert sorted(map(tuple, ring.tolist())) == [(3, 5), (3, 6), (4, 5), (4, 6)]


def test_run_length_encodings(intricate):
    coco_mask = pytest.importorskip("pycocotools.mask")
    segmentation = Segmentation(intricate, NAMES)
    encodings = json.loads(json.dumps(segmentation.to_rle()))
    assert list(encodings) == [str(class_id) for class_id in segmentation.class_ids]
    for class_id, encoding in encodings.items():
        np.testing.assert_array_equal(coco_mask.decode(encoding), intricate == int(class_id))
        assert coco_mask.area(encoding) == segmentation.pixel_counts[int(class_id)]


def test_results_that_coco_itself_loads(intricate, tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    segmentation = Segmentation(intricate, NAMES)
    results = [
        {"image_id": 5, "category_id": class_id, "segmentation": rle, "score": 1.0}
        for class_id, rle in segmentation.to_rle().items()
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    truth = coco.COCO()
    truth.dataset = {
        "images": [{"id": 5, "height": 72, "width": 96}],
        "categories": [{"id": class_id, "name": name} for class_id, name in NAMES.items()],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(str(tmp_path / "results.json"))
    for annotation in loaded.loadAnns(loaded.getAnnIds()):
        np.testing.assert_array_equal(loaded.annToMask(annotation), intricate == annotation["category_id"])


def test_detections_for_supervision(intricate):
    supervision = pytest.importorskip("supervision")
    segmentation = Segmentation(intricate, NAMES)
    detections = segmentation.to_detections()
    assert detections.class_id.tolist() == segmentation.class_ids
    assert detections["class_name"].tolist() == [NAMES[class_id] for class_id in segmentation.class_ids]
    np.testing.assert_array_equal(detections.area, [(intricate == one).sum() for one in segmentation.class_ids])
    (only,) = detections[detections["class_name"] == "sky"].mask
    np.testing.assert_array_equal(only, intricate == 2)
    left, top, right, bottom = detections[detections["class_name"] == "sky"].xyxy[0]
    rows, columns = np.nonzero(only)
    assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max(), rows.max())
    scene = np.full((72, 96, 3), 100, dtype=np.uint8)
    annotated = supervision.MaskAnnotator(opacity=1.0).annotate(scene.copy(), detections)
    labelled = supervision.LabelAnnotator().annotate(annotated.copy(), detections)
    assert len(np.unique(annotated.reshape(-1, 3), axis=0)) == 3
    assert (labelled != annotated).any()


def test_conversions_of_label_maps_in_files(segmenter, make_photo, tmp_path):
    pytest.importorskip("rasterio")
    pytest.importorskip("pycocotools")
    segmentation = segmenter(make_photo(200, 100), tile=96, output=tmp_path / "classes.npy")
    label_map = np.load(tmp_path / "classes.npy")
    class_ids, masks = segmentation.to_masks()
    assert class_ids == list(segmentation.to_polygons()) == list(segmentation.to_rle())
    for class_id, mask in zip(class_ids, masks):
        np.testing.assert_array_equal(mask, label_map == class_id)


def test_a_missing_package_is_named(label_map, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ImportError, match=r"package pycocotools: pip install \"cgrseg_hf\[coco\]\""):
        Segmentation(label_map, NAMES).to_rle()


def test_notebooks_show_the_overlay(segmenter, make_photo):
    segmentation = segmenter(make_photo(200, 100))
    with Image.open(io.BytesIO(segmentation._repr_png_())) as shown:
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(segmentation.overlay()))
    photo = Image.new("RGB", (5000, 30))
    large = Segmentation(np.zeros((30, 5000), dtype=np.uint8), NAMES, read_photo=photo.reduce)
    with Image.open(io.BytesIO(large._repr_png_())) as shown:
        assert 1000 <= shown.width <= 1300


def test_notebooks_show_the_colours_where_the_photo_cannot_be_had(label_map, segmenter, make_photo, tmp_path):
    with Image.open(io.BytesIO(Segmentation(label_map, NAMES)._repr_png_())) as shown:
        assert np.asarray(shown)[5, 5].tolist() == list(class_color(2))
        assert np.asarray(shown)[18, 5].tolist() == list(class_color(0))
    make_photo(200, 100).save(tmp_path / "photo.png")
    segmentation = segmenter(tmp_path / "photo.png")
    (tmp_path / "photo.png").unlink()
    with Image.open(io.BytesIO(segmentation._repr_png_())) as shown:
        assert shown.width > 200
        colors = {tuple(color) for color in np.asarray(shown)[:100, :200].reshape(-1, 3)}
    assert {class_color(class_id) for class_id in segmentation.class_ids} <= colors


def test_overlays_in_other_colours(label_map):
    overlay = Segmentation(label_map, NAMES).overlay(Image.new("RGB", (30, 20)), opacity=1.0, colors="colorblind")
    assert np.asarray(overlay)[5, 5].tolist() == [0, 158, 115]


def test_overlays_without_a_legend_have_the_size_of_the_photo(label_map):
    segmentation, photo = Segmentation(label_map, NAMES), Image.new("RGB", (30, 20))
    bare = segmentation.overlay(photo, legend=False)
    assert bare.size == photo.size
    np.testing.assert_array_equal(np.asarray(segmentation.overlay(photo))[:20, :30], np.asarray(bare))


def test_folders_are_made_and_impossible_overlays_refused(tmp_path):
    segmentation = Segmentation(np.zeros((4, 6), dtype=np.uint8), {0: "road"})
    for suffix in (".png", ".npy", ".json"):
        assert segmentation.save(tmp_path / suffix[1:] / f"map{suffix}").is_file()
    photo = Image.new("RGB", (6, 4), "red")
    photo.save(tmp_path / "photo.png")
    drawn = [segmentation.overlay(one) for one in (photo, tmp_path / "photo.png", np.asarray(photo))]
    assert all(np.array_equal(np.asarray(one), np.asarray(drawn[0])) for one in drawn)
    for arguments, message in (({"opacity": 2}, "opacity=2"), ({"max_side": 0}, "max_side=0")):
        with pytest.raises(ValueError, match=message):
            segmentation.overlay(photo, **arguments)
