# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps as pictures that a person can read."""

import colorsys
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

# The golden ratio walks around the colour wheel without coming close to where it has just been.
_HUE_STEP = (5**0.5 - 1) / 2


def class_color(class_id: int) -> tuple[int, int, int]:
    """The colour of a class, (red, green, blue) in 0 to 255; the same id always has the same one."""
    saturation, value = ((0.85, 0.95), (0.55, 1.0), (0.9, 0.65))[class_id % 3]
    red, green, blue = colorsys.hsv_to_rgb(class_id * _HUE_STEP % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_overlay(
    image: Image.Image,
    label_map: np.ndarray,
    id2label: Mapping[int, str],
    opacity: float = 0.55,
    ignore_index: int = 255,
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

    Returns:
        `PIL.Image.Image`: the photo with colours, and to its right the legend: colour, name and share of the picture
        for each class, the largest first.

    Raises:
        ValueError: If photo and label map differ in size.
    """
    image = ImageOps.exif_transpose(image)
    label_map = np.asarray(label_map)
    if label_map.shape != (image.height, image.width):
        raise ValueError(
            f"The photo has height and width {(image.height, image.width)}, but the label map {label_map.shape}: "
            "they must be equal."
        )
    photo = np.asarray(image.convert("RGB"), dtype=np.float32)
    class_ids, pixels = np.unique(label_map[label_map != ignore_index], return_counts=True)
    colored = photo.copy()
    for class_id in class_ids:
        of_class = label_map == class_id
        colored[of_class] = (1 - opacity) * photo[of_class] + opacity * np.array(class_color(int(class_id)))
    colored[find_boundaries(label_map)] = 255
    picture = Image.fromarray(colored.round().astype(np.uint8))

    order = np.argsort(-pixels, kind="stable")
    entries = [(int(class_ids[i]), f"{id2label[int(class_ids[i])]}  {pixels[i] / label_map.size:.1%}") for i in order]
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


def draw_legend(entries: list[tuple[int, str]], height: int) -> Image.Image:
    """A column of colour patches with captions, one for each (class id, caption), about as high as the picture."""
    line = int(np.clip(height / (len(entries) + 1), 16, 28))
    font = ImageFont.load_default(size=line * 0.62)
    widest = max((font.getlength(caption) for _, caption in entries), default=0)
    legend = Image.new("RGB", (int(widest) + 3 * line, line * (len(entries) + 1)), "white")
    draw = ImageDraw.Draw(legend)
    for index, (class_id, caption) in enumerate(entries):
        top = line // 2 + index * line
        draw.rectangle((line // 2, top + 2, 3 * line // 2, top + line - 3), fill=class_color(class_id), outline="black")
        draw.text((2 * line, top + line / 2), caption, fill="black", font=font, anchor="lm")
    return legend
