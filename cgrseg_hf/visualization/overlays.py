# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps over their photos, with boundaries and a legend."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from .colors import Color, class_colors
from .fonts import text_size_for
from .legends import draw_legend, format_share

IGNORED_COLOR: Color = (60, 60, 60)
_RIM_OPACITY = 0.4
# Rims would hide too much of a smaller photo: the square root of its pixels.
_SMALLEST_WITH_RIMS = 200


def draw_overlay(
    image: Image.Image,
    label_map: np.ndarray,
    id2label: Mapping[int, str],
    opacity: float = 0.55,
    ignore_index: int = 255,
    colors: str | Sequence[Color] | None = None,
    legend: bool = True,
) -> Image.Image:
    """
    Draw a label map over its photo, with boundaries and a legend of the classes present.

    Args:
        image (`PIL.Image.Image`): The photo; it is turned as its EXIF says.
        label_map (`numpy.ndarray` of shape `(height, width)`): Class of each pixel of the turned photo.
        id2label (`Mapping[int, str]`): Names of the classes, such as a model's `config.id2label`.
        opacity (`float`, *optional*, defaults to 0.55): Opacity of the classes' colours, 0 to 1.
        ignore_index (`int`, *optional*, defaults to 255): Label of the pixels that are left as they are.
        colors (`str` or `Sequence[tuple[int, int, int]]`, *optional*): A palette, see [`class_colors`].
        legend (`bool`, *optional*, defaults to `True`): Whether to add the legend.

    Returns:
        `PIL.Image.Image`: the photo with colours, and to its right the legend: colour, name and share of the photo
        for each class, the largest first. Boundaries and text grow with the photo.

    Raises:
        ValueError: If photo and label map differ in size, the label map holds a class without a name, or `opacity` is
            not from 0 to 1.
    """
    check_opacity(opacity)
    image = to_rgb(image)
    label_map = np.asarray(label_map)
    check_label_map(label_map, image, id2label, ignore_index)
    colors = class_colors(id2label, colors)
    overlay = tint(image, label_map, colors, opacity, ignore_index)
    if not legend:
        return overlay
    entries = list_classes([label_map], id2label, colors, ignore_index)
    return place_right(overlay, draw_legend(entries, overlay.height, text_size_for(*overlay.size)))


def color_label_map(
    label_map: np.ndarray, colors: Sequence[Color], ignore_index: int = 255, ignored_color: Color = IGNORED_COLOR
) -> Image.Image:
    """Draw a label map (height, width) in the classes' colours, by default with ignored pixels in dark grey."""
    table = np.array([*colors, ignored_color], dtype=np.uint8)
    return Image.fromarray(table[_index_colors(label_map, len(colors), ignore_index)])


def find_boundaries(label_map: np.ndarray) -> np.ndarray:
    """Find pixels whose right or lower neighbour has another label, (height, width), bool."""
    boundaries = np.zeros(label_map.shape, dtype=bool)
    boundaries[:, :-1] |= label_map[:, :-1] != label_map[:, 1:]
    boundaries[:-1] |= label_map[:-1] != label_map[1:]
    return boundaries


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a photo as its EXIF says, scale 16 bits to 8, and put transparent pixels on white."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info and not image.getexif():
        return image.convert("RGB")
    from ..model.image_reading_cgrseg import to_photo  # imports packages that take time to load

    return to_photo(image)


def check_opacity(opacity: float) -> None:
    """Raise a `ValueError` if an opacity is not from 0 to 1, such as one in percent."""
    if not 0 <= opacity <= 1:
        hint = f": for {opacity:g} percent give {opacity / 100:g}" if 1 < opacity <= 100 else ""
        raise ValueError(f"opacity={opacity}, but it goes from 0 to 1{hint}.")


def check_label_map(label_map: np.ndarray, image: Image.Image, id2label: Mapping[int, str], ignore_index: int) -> None:
    """Raise a `ValueError` if a label map has another size than its photo, or holds a class without a name."""
    size = (image.height, image.width)
    if label_map.shape != size:
        raise ValueError(
            f"The photo has height and width {size}, but the label map {label_map.shape}: they must be equal."
        )
    unnamed = [value for value in np.unique(label_map).tolist() if value != ignore_index and value not in id2label]
    if unnamed:
        raise ValueError(
            f"The label map holds {unnamed[:10]}, which id2label does not name: add these classes, or set ignore_index "
            f"(now {ignore_index}) if they stand for no class."
        )


def tint(
    image: Image.Image, label_map: np.ndarray, colors: Sequence[Color], opacity: float, ignore_index: int
) -> Image.Image:
    """Draw an RGB photo in the classes' colours, with boundaries; see [`draw_overlay`]."""
    colored = color_label_map(label_map, colors, ignore_index)
    cover = np.where(find_ignored(label_map, ignore_index), 0, round(255 * opacity)).astype(np.uint8)
    tinted = Image.composite(colored, image, Image.fromarray(cover))
    _draw_boundaries(tinted, label_map)
    return tinted


def list_classes(
    label_maps: Sequence[np.ndarray], id2label: Mapping[int, str], colors: Sequence[Color], ignore_index: int
) -> list[tuple]:
    """List colour, name and share in each label map of every class that occurs, the largest first, for a legend."""
    num_labels = len(colors)
    indices = [_index_colors(label_map, num_labels, ignore_index) for label_map in label_maps]
    counts = [np.bincount(one.ravel(), minlength=num_labels)[:num_labels] for one in indices]
    shares = np.array(counts) / indices[0].size
    largest = shares.max(axis=0)
    return [
        (colors[class_id], id2label[class_id], *map(format_share, shares[:, class_id]))
        for class_id in np.argsort(-largest, kind="stable").tolist()
        if largest[class_id]
    ]


def find_ignored(label_map: np.ndarray, ignore_index: int) -> np.ndarray:
    """Find pixels with the ignored label, bool."""
    # Releases of NumPy before 2.3 crash where a view of 8 bits is compared with a number beyond them.
    return label_map.astype(np.int32, copy=False) == ignore_index


def place_right(image: Image.Image, legend: Image.Image, top: int = 0) -> Image.Image:
    """Place a legend to the right of an image, from the row `top` on."""
    canvas = Image.new("RGB", (image.width + legend.width, max(image.height, top + legend.height)), "white")
    canvas.paste(image, (0, 0))
    canvas.paste(legend, (image.width, top))
    return canvas


def _index_colors(label_map: np.ndarray, num_labels: int, ignore_index: int) -> np.ndarray:
    """Class ids, with `num_labels` where the label is ignored."""
    return np.where(find_ignored(label_map, ignore_index), num_labels, label_map.astype(np.int32))


def _draw_boundaries(image: Image.Image, label_map: np.ndarray) -> None:
    """Draw white lines between classes, with dark rims: one of the two stands out from any photo."""
    side = (image.width * image.height) ** 0.5
    width = max(1, round(side / 500))
    rim = max(width // 2, side >= _SMALLEST_WITH_RIMS)
    boundaries = find_boundaries(label_map)
    darkened = _thicken(boundaries, width + 2 * rim).astype(np.uint8) * round(255 * _RIM_OPACITY)
    image.paste((0, 0, 0), mask=Image.fromarray(darkened))
    image.paste((255, 255, 255), mask=Image.fromarray(_thicken(boundaries, width)))


def _thicken(mask: np.ndarray, width: int) -> np.ndarray:
    """Mark every pixel in a square of `width` pixels around one of the mask."""
    for axis in (0, 1):
        margins = [(0, 0), (0, 0)]
        margins[axis] = (width // 2, (width - 1) // 2)
        mask = np.lib.stride_tricks.sliding_window_view(np.pad(mask, margins), width, axis).any(axis=-1)
    return mask
