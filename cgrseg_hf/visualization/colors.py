# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Colours of classes: the data sets' own, generated ones, and ones that colour-blind readers can tell apart."""

import colorsys
import functools
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

Color: TypeAlias = tuple[int, int, int]
PaletteName = Literal["usual", "generated", "colorblind"]

# Steps of the golden ratio go around the colour wheel without coming close to the last ones.
_HUE_STEP = (5**0.5 - 1) / 2
# Numbers of colours: the first from these steps are easy to distinguish, the next are chosen for their distance.
_NUM_WALKED, _NUM_CHOSEN = 19, 493

# From linear RGB, as sRGB defines it, to XYZ.
_XYZ_OF_LINEAR_RGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])

# Okabe and Ito, "Color Universal Design" (2008): orange, sky blue, bluish green, yellow, blue, vermilion, reddish
# purple, and black.
_OKABE_ITO: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (0, 0, 0),
)
# Shades of them: which colour, and how much of it is replaced by white, or below 0 by black. After the eight themselves
# come those farthest from all before them, to normal, protanope and deuteranope eyes.
_SHADES = (
    *((index, 0.0) for index in range(len(_OKABE_ITO))),
    *((3, 0.8), (5, -0.5), (4, -0.5), (0, 0.5), (1, 0.65), (2, -0.5), (6, -0.35), (5, 0.65), (5, 0.35), (2, 0.65)),
)


def class_color(class_id: int) -> Color:
    """
    Compute the colour of a class, (red, green, blue) from 0 to 255; the same id always has the same colour.

    Those of the first 171 ids differ by 14 and more in CIELAB, where people can just see a difference of 2.3.
    """
    if _NUM_WALKED <= class_id < _NUM_WALKED + _NUM_CHOSEN:
        return _choose_colors()[class_id - _NUM_WALKED]
    saturation, value = ((0.85, 0.95), (0.55, 1.0), (0.9, 0.65))[class_id % 3]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _HUE_STEP % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


@functools.cache
def _choose_colors() -> tuple[Color, ...]:
    """Choose colours of a grid, none of them greyish, each the farthest from all before it."""
    levels = range(0, 256, 17)
    grid = np.array([(red, green, blue) for red in levels for green in levels for blue in levels])
    lab = _to_lab(grid)
    is_vivid = (lab[:, 0] > 25) & (lab[:, 0] < 92) & (np.hypot(lab[:, 1], lab[:, 2]) > 15)
    grid, lab = grid[is_vivid], lab[is_vivid]
    before = _to_lab(np.array([class_color(class_id) for class_id in range(_NUM_WALKED)]))
    distance = np.linalg.norm(lab[:, None] - before, axis=2).min(axis=1)
    chosen = []
    for _ in range(_NUM_CHOSEN):
        farthest = int(distance.argmax())
        chosen.append(tuple(map(int, grid[farthest])))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return tuple(chosen)


def _to_lab(colors: np.ndarray) -> np.ndarray:
    """Convert colours (..., 3) from 0 to 255 to CIELAB, where distances are about as large as they look."""
    values = colors / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    relative = linear @ _XYZ_OF_LINEAR_RGB.T / _XYZ_OF_LINEAR_RGB.sum(axis=1)
    roots = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(roots, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def class_colors(id2label: Mapping[int, str], palette: str | Sequence[Color] | None = None) -> list[Color]:
    """
    Find the colour of every class by id, (red, green, blue) from 0 to 255.

    Args:
        id2label (`Mapping[int, str]`): Names of the classes.
        palette (`str` or `Sequence[tuple[int, int, int]]`, *optional*): Colours by id, one for each class at least,
            or one of these names:
            - `"usual"`, the default: where the classes are those of a known data set, its own colours, of which two
              may be the same; otherwise `"generated"`.
            - `"generated"`: those of [`class_color`].
            - `"colorblind"`: Okabe and Ito's eight and shades of them, for people with protanopia or deuteranopia too:
              the first fourteen are easy to distinguish, later ones less and less.

    Raises:
        ValueError: If no palette has that name, there are fewer colours than classes, or they have other values than
            whole numbers from 0 to 255.
    """
    num_colors = max(id2label, default=-1) + 1
    if palette is not None and not isinstance(palette, str):
        return _check_colors(palette, num_colors)
    if palette is not None and palette not in get_args(PaletteName):
        names = ", ".join(repr(name) for name in get_args(PaletteName))
        raise ValueError(f"No palette is named {palette!r}: use one of {names}, or give the colours by class id.")
    if palette in (None, "usual"):
        from ..data.catalog import find_palette  # it comes with packages that take time to load

        if usual := find_palette(id2label):
            return usual
    make_color = _colorblind_color if palette == "colorblind" else class_color
    return [make_color(class_id) for class_id in range(num_colors)]


def _check_colors(palette: Sequence[Color], num_colors: int) -> list[Color]:
    """Convert given colours, also of an array, to whole numbers from 0 to 255."""
    if len(palette) < num_colors:
        raise ValueError(
            f"There are {len(palette)} colours for classes up to id {num_colors - 1}: give {num_colors}, one for each."
        )
    for color in palette:
        if len(color) != 3 or any(value != int(value) or not 0 <= value <= 255 for value in color):
            raise ValueError(f"{tuple(color)} is not a colour: give red, green and blue, whole numbers from 0 to 255.")
    return [tuple(map(int, color)) for color in palette]


def _colorblind_color(class_id: int) -> Color:
    if class_id < len(_SHADES):
        index, amount = _SHADES[class_id]
    else:  # every turn through the seven colours has another shade
        turn, index = divmod(class_id - len(_SHADES), len(_OKABE_ITO) - 1)
        amount = 1.3 * ((turn + 1) * _HUE_STEP % 1) - 0.6
    target = 255 if amount > 0 else 0
    red, green, blue = (round(value + abs(amount) * (target - value)) for value in _OKABE_ITO[index])
    return red, green, blue
