# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Palettes: colours that differ, and that colour-blind readers can tell apart."""

import re

import numpy as np
import pytest

from cgrseg_hf.data import get_description
from cgrseg_hf.visualization import class_color, class_colors

# What people without one kind of cones see, in linear RGB: Machado, Oliveira and Fernandes, "A Physiologically-based
# Model for Simulation of Color Vision Deficiency" (2009), severity 1.
SIMULATIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
XYZ_OF_LINEAR_RGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = XYZ_OF_LINEAR_RGB.sum(axis=1)


def to_lab(colors: list[tuple[int, int, int]], vision: str) -> np.ndarray:
    """CIELAB (colors, 3) as seen: a difference of 2.3 can just be noticed."""
    values = np.array(colors) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ SIMULATIONS[vision].T, 0, 1)
    relative = seen @ XYZ_OF_LINEAR_RGB.T / WHITE
    x, y, z = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def smallest_distance(colors: list[tuple[int, int, int]], vision: str) -> float:
    lab = to_lab(colors, vision)
    distances = np.linalg.norm(lab[:, None] - lab, axis=2)
    return distances[np.triu_indices(len(colors), k=1)].min()


def name_classes(number: int) -> dict[int, str]:
    return {class_id: str(class_id) for class_id in range(number)}


def test_neighbouring_ids_have_distinct_colours():
    colors = [class_color(class_id) for class_id in range(600)]
    assert len(set(colors)) > 500
    assert smallest_distance(colors[:60], "normal") > 20
    assert smallest_distance(colors[:171], "normal") > 14


def test_known_classes_have_their_usual_colours():
    ade20k = get_description("ade20k")
    assert class_colors(ade20k.id2label) == class_colors(ade20k.id2label, "usual") == ade20k.palette
    assert class_colors(ade20k.id2label, "generated") == [class_color(class_id) for class_id in range(150)]
    assert class_colors({0: "road", 1: "wall"}) == [class_color(0), class_color(1)]


@pytest.mark.parametrize("vision", SIMULATIONS)
def test_colour_blind_readers_tell_fourteen_colours_apart(vision):
    colors = class_colors(name_classes(14), "colorblind")
    assert smallest_distance(colors, vision) > 15
    # What tells the test itself from one that simulates nothing.
    usual = class_colors(name_classes(14), "generated")
    assert vision == "normal" or smallest_distance(usual, vision) < smallest_distance(usual, "normal")
    assert smallest_distance(class_colors(name_classes(18), "colorblind"), vision) > 10


def test_more_classes_have_colours_of_their_own():
    colors = class_colors(name_classes(171), "colorblind")
    assert len(set(colors)) == 171
    assert all(0 <= value <= 255 for color in colors for value in color)
    # The same class has the same colour whatever follows it.
    assert class_colors(name_classes(20), "colorblind") == colors[:20]


def test_colours_of_ones_own():
    colors = [(1, 2, 3), [4, 5, 6], (7, 8, 9)]
    assert class_colors(name_classes(2), colors) == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert class_colors(name_classes(2), np.array(colors, dtype=np.uint8)) == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    for wrong in ((0.5, 0.1, 0.2), (1, 2, 256), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match=re.escape(str(wrong))):
            class_colors(name_classes(1), [wrong])
    with pytest.raises(ValueError, match=r"3 colours .* id 3: give 4"):
        class_colors(name_classes(4), colors)
    with pytest.raises(ValueError, match=r"'colourblind'.*'colorblind'"):
        class_colors(name_classes(4), "colourblind")
