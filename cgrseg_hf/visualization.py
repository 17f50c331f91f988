# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps as pictures that a person can read."""

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

# The golden ratio walks around the colour wheel without coming close to where it has just been.
_HUE_STEP = (5**0.5 - 1) / 2


def class_color(class_id: int) -> tuple[int, int, int]:
    """The colour of a class, (red, green, blue) in 0 to 255; the same id always has the same one."""
    saturation, value = ((0.85, 0.95), (0.55, 1.0), (0.9, 0.65))[class_id % 3]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _HUE_STEP % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def class_colors(id2label: Mapping[int, str]) -> list[tuple[int, int, int]]:
    """
    The colour of every class, (red, green, blue) in 0 to 255, by id.

    They are the usual ones where the classes are those of a known data set, of which two may be the same, and those of
    [`class_color`] otherwise.
    """
    from .data.catalog import find_palette  # it comes with packages that take time to load

    return find_palette(id2label) or [class_color(class_id) for class_id in range(max(id2label, default=-1) + 1)]


def draw_overlay(
    image: Image.Image,
    label_map: np.ndarray,
    id2label: Mapping[int, str],
    opacity: float = 0.55,
    ignore_index: int = 255,
    colors: Sequence[tuple[int, int, int]] | None = None,
) -> Image.Image:
    """
    Lay a label map over its photo, with outlines and a legend of the classes present.

    Args:
        image (`PIL.Image.Image`):
            The photo; it is turned as its EXIF says.
        label_map (`numpy.ndarray` of shape `(height, width)`):
            Class of each pixel of the photo as a person sees it.
        id2label (`Mapping[int, str]`):
            Names of the classes, such as a model's `config.id2label`.
        opacity (`float`, *optional*, defaults to 0.55):
            How much of the classes' colours, 0 to 1, covers the photo.
        ignore_index (`int`, *optional*, defaults to 255):
            Label of the pixels that are left as they are.
        colors (`Sequence[tuple[int, int, int]]`, *optional*):
            Colours of the classes by id; by default those of [`class_colors`].

    Returns:
        `PIL.Image.Image`: the photo with colours, and to its right the legend: colour, name and share of the picture
        for each class, the largest first.

    Raises:
        ValueError: If photo and label map differ in size.
    """
    image = ImageOps.exif_transpose(image)
    colors = class_colors(id2label) if colors is None else colors
    label_map = np.asarray(label_map)
    if label_map.shape != (image.height, image.width):
        raise ValueError(
            f"The photo has height and width {(image.height, image.width)}, but the label map {label_map.shape}: "
            "they must be equal."
        )
    num_colors = len(colors)
    ids = np.where(label_map == ignore_index, num_colors, label_map.astype(np.int32))
    table = np.array([*colors, (0, 0, 0)], dtype=np.uint8)
    mask = np.full(num_colors + 1, round(255 * opacity), dtype=np.uint8)
    mask[num_colors] = 0
    picture = Image.composite(Image.fromarray(table[ids]), image.convert("RGB"), Image.fromarray(mask[ids]))
    picture.paste((255, 255, 255), mask=Image.fromarray(find_boundaries(label_map)))

    pixels = np.bincount(ids.ravel(), minlength=num_colors)[:num_colors]
    order = [int(class_id) for class_id in np.argsort(-pixels, kind="stable") if pixels[class_id]]
    entries = [
        (colors[class_id], f"{id2label[class_id]}  {pixels[class_id] / label_map.size:.1%}") for class_id in order
    ]
    legend = draw_legend(entries, picture.height)
    canvas = Image.new("RGB", (picture.width + legend.width, max(picture.height, legend.height)), "white")
    canvas.paste(picture, (0, 0))
    canvas.paste(legend, (picture.width, 0))
    return canvas


def find_boundaries(label_map: np.ndarray) -> np.ndarray:
    """Pixels whose right or lower neighbour has another label, (height, width), bool."""
    boundaries = np.zeros(label_map.shape, dtype=bool)
    boundaries[:, :-1] |= label_map[:, :-1] != label_map[:, 1:]
    boundaries[:-1] |= label_map[:-1] != label_map[1:]
    return boundaries


def draw_legend(entries: list[tuple[tuple[int, int, int], str]], height: int) -> Image.Image:
    """A column of colour patches with captions, one for each (colour, caption), about as high as the picture."""
    line = int(np.clip(height / (len(entries) + 1), 16, 28))
    font = ImageFont.load_default(size=line * 0.62)
    widest = max((font.getlength(caption) for _, caption in entries), default=0)
    legend = Image.new("RGB", (int(widest) + 3 * line, line * (len(entries) + 1)), "white")
    draw = ImageDraw.Draw(legend)
    for index, (color, caption) in enumerate(entries):
        top = line // 2 + index * line
        draw.rectangle((line // 2, top + 2, 3 * line // 2, top + line - 3), fill=color, outline="black")
        draw.text((2 * line, top + line / 2), caption, fill="black", font=font, anchor="lm")
    return legend
