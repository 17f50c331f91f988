# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Overlays: colours where classes are, boundaries, a legend beside the photo."""

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.visualization import (
    class_color,
    color_label_map,
    draw_heat_map,
    draw_overlay,
    draw_side_by_side,
    find_boundaries,
)

NAMES = {class_id: f"class {class_id}" for class_id in range(60)}


def test_overlay_colours_classes_and_leaves_the_ignored_alone():
    photo = Image.new("RGB", (60, 40), (100, 100, 100))
    label_map = np.zeros((40, 60), dtype=np.uint8)
    label_map[:, 20:40], label_map[:, 40:] = 7, 255
    overlay = np.asarray(draw_overlay(photo, label_map, {0: "road", 7: "sky"}, opacity=1.0))
    colors = [(1, 2, 3), (4, 5, 6), *[(7, 8, 9)] * 6]
    assert np.asarray(color_label_map(label_map, colors, ignored_color=(0, 0, 9)))[0, ::20].tolist() == [
        [1, 2, 3],
        [7, 8, 9],
        [0, 0, 9],
    ]
    assert tuple(overlay[5, 5]) == class_color(0)
    assert tuple(overlay[5, 30]) == class_color(7)
    assert tuple(overlay[5, 50]) == (100, 100, 100)
    assert overlay.shape[1] > 60 and (overlay[:, 60:] != 255).any()  # a legend


def test_legend_covers_nothing_of_the_photo_and_can_be_left_out():
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 250, (75, 100, 3), dtype=np.uint8))
    label_map = np.arange(60).repeat(125).reshape(75, 100)
    overlay = draw_overlay(photo, label_map, NAMES)
    bare = draw_overlay(photo, label_map, NAMES, legend=False)
    assert bare.size == photo.size
    np.testing.assert_array_equal(np.asarray(overlay)[:75, :100], np.asarray(bare))


@pytest.mark.parametrize("size", [(100, 75), (640, 480), (2000, 300)])
@pytest.mark.parametrize("num_classes", [1, 60])
def test_legend_has_every_class_and_a_shape_that_can_be_looked_at(size, num_classes):
    label_map = np.arange(size[0] * size[1]).reshape(size[::-1]) * num_classes // (size[0] * size[1])
    overlay = draw_overlay(Image.new("RGB", size), label_map, NAMES, opacity=1.0, ignore_index=-1)
    legend = np.asarray(overlay)[:, size[0] :]
    for class_id in range(num_classes):
        assert (legend == class_color(class_id)).all(axis=2).sum() > 50, class_id
    assert legend.shape[0] <= max(size[1], legend.shape[1])
    assert (legend[[0, -1]] == 255).all() and (legend[:, -1] == 255).all()  # nothing is cut off


def test_boundaries_and_legend_grow_with_the_photo():
    def measure(side: int) -> tuple[int, int]:
        label_map = np.repeat([[0], [1]], side // 2, axis=0).repeat(side, axis=1)
        photo = Image.new("RGB", (side, side), (90, 90, 90))
        overlay = np.asarray(draw_overlay(photo, label_map, NAMES, opacity=0.0))
        return int((overlay[:, side // 3] == 255).all(axis=1).sum()), overlay.shape[1] - side

    (thin, narrow), (thick, wide) = measure(400), measure(4000)
    assert thin == 1 and thick == 8
    assert wide > 5 * narrow


def test_boundaries_reach_the_edges_and_stay_on_the_line():
    label_map = np.zeros((1600, 1600), dtype=np.uint8)
    label_map[:, 800:] = 1
    overlay = np.asarray(draw_overlay(Image.new("RGB", (1600, 1600), (90, 90, 90)), label_map, NAMES, legend=False))
    white = (overlay == 255).all(axis=2)
    np.testing.assert_array_equal(white, np.broadcast_to(white[:1], white.shape))
    assert np.nonzero(white[0])[0].tolist() == [798, 799, 800]


def test_names_in_other_scripts_and_of_any_length():
    label_map = np.repeat([[0, 1, 2]], 50, axis=0).repeat(50, axis=1)
    names = {0: "Straße", 1: "дорога", 2: "a class whose name goes on and on and on and on and on"}
    overlay = draw_overlay(Image.new("RGB", (150, 50)), label_map, names)
    assert 150 < overlay.width < 150 + 13 * 30


def test_boundaries_lie_between_classes():
    boundaries = find_boundaries(np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]]))
    assert boundaries.tolist() == [[False, True, False], [True, True, True], [False, False, False]]


def test_turned_photos_and_wrong_sizes():
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.new("RGB", (60, 40))
    photo.info["exif"] = exif.tobytes()
    photo.getexif()[0x0112] = 6
    draw_overlay(photo, np.zeros((60, 40), dtype=int), {0: "road"})
    with pytest.raises(ValueError, match=r"\(60, 40\).*\(40, 60\)"):
        draw_overlay(photo, np.zeros((40, 60), dtype=int), {0: "road"})


def test_classes_without_a_name_are_named():
    label_map = np.array([[0, 5, 255]])
    with pytest.raises(ValueError, match=r"\[5\].*ignore_index"):
        draw_overlay(Image.new("RGB", (3, 1)), label_map, {0: "road"})


def test_photos_of_sixteen_bits():
    values = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    photo, label_map, names = Image.fromarray(values), np.zeros((40, 60), dtype=np.uint8), {0: "road"}
    overlay = np.asarray(draw_overlay(photo, label_map, names, opacity=0.0, legend=False))
    np.testing.assert_allclose(overlay[..., 0], values / 257, atol=1)
    assert np.asarray(draw_heat_map(photo, values / 65535, opacity=0.0))[20, 30, 1] == 131
    beside = np.asarray(draw_side_by_side(photo, label_map, names, opacity=0.0))
    assert ((beside > 60) & (beside < 200)).all(axis=2).sum() > 2000  # more than half of the two images


@pytest.mark.parametrize("draw", [draw_overlay, draw_side_by_side])
def test_opacity_in_percent_is_refused(draw):
    with pytest.raises(ValueError, match=r"opacity=55\b.*0\.55"):
        draw(Image.new("L", (60, 40)), np.zeros((40, 60), dtype=int), {0: "road"}, opacity=55)
