# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Overlays: colours where classes are, a legend beside the photo."""

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.data import get_description
from cgrseg_hf.visualization import class_color, class_colors, draw_overlay, find_boundaries


def test_overlay_colours_classes_and_leaves_the_ignored_alone():
    photo = Image.new("RGB", (60, 40), (100, 100, 100))
    label_map = np.zeros((40, 60), dtype=np.uint8)
    label_map[:, 20:40], label_map[:, 40:] = 7, 255
    overlay = np.asarray(draw_overlay(photo, label_map, {0: "road", 7: "sky"}, opacity=1.0))
    assert tuple(overlay[5, 5]) == class_color(0)
    assert tuple(overlay[5, 30]) == class_color(7)
    assert tuple(overlay[5, 50]) == (100, 100, 100)
    assert overlay.shape[1] > 60 and (overlay[:, 60:] != 255).any()  # a legend


def test_legend_colours_are_those_of_the_picture():
    label_map = np.full((100, 100), 3)
    overlay = np.asarray(draw_overlay(Image.new("RGB", (100, 100)), label_map, {3: "tree"}, opacity=1.0))
    assert (overlay[:, 100:] == class_color(3)).all(axis=2).any()


def test_neighbouring_ids_have_distinct_colours():
    colors = np.array([class_color(class_id) for class_id in range(171)], dtype=int)
    assert len({tuple(color) for color in colors}) == 171
    assert np.abs(colors[1:] - colors[:-1]).max(axis=1).min() > 60


def test_known_classes_have_their_usual_colours():
    ade20k = get_description("ade20k")
    assert class_colors(ade20k.id2label) == ade20k.palette
    assert class_colors({0: "road", 1: "wall"}) == [class_color(0), class_color(1)]
    photo, label_map = Image.new("RGB", (60, 40)), np.full((40, 60), 149, dtype=np.uint8)
    overlay = np.asarray(draw_overlay(photo, label_map, ade20k.id2label, opacity=1.0))
    assert tuple(overlay[5, 5]) == ade20k.palette[149]


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
