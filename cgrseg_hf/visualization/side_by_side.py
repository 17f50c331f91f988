# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Several pictures with captions on one sheet: the photo beside what was found, and beside the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .colors import Color, class_colors
from .fonts import TEXT_COLOR, load_font, shorten, text_size_for
from .legends import draw_legend, format_share
from .overlays import by_size, check_label_map, class_shares, place_right, tint
from .photos import check_opacity, to_rgb


def draw_side_by_side(
    image: Image.Image,
    prediction: np.ndarray,
    id2label: Mapping[int, str],
    ground_truth: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    opacity: float = 0.55,
    ignore_index: int = 255,
    colors: str | Sequence[Color] | None = None,
) -> Image.Image:
    """
    The photo beside its label map, or beside ground truth and prediction, with captions and one legend.

    Args:
        image (`PIL.Image.Image`):
            The photo; it is turned as its EXIF says.
        prediction (`numpy.ndarray` of shape `(height, width)`):
            Class of each pixel of the photo as a person sees it.
        id2label (`Mapping[int, str]`):
            Names of the classes.
        ground_truth (`numpy.ndarray` of shape `(height, width)`, *optional*):
            The true classes, which stand between photo and prediction then.
        captions (`Sequence[str]`, *optional*):
            What stands above the pictures; by default "Photo", "Ground truth" and "Prediction".
        opacity (`float`, *optional*, defaults to 0.55):
            How much of the classes' colours, 0 to 1, covers the photo.
        ignore_index (`int`, *optional*, defaults to 255):
            Label of the pixels that are left as they are.
        colors (`str` or `Sequence[tuple[int, int, int]]`, *optional*):
            Colours of the classes by id, or the name of a palette: see [`class_colors`].

    Returns:
        `PIL.Image.Image`: the pictures in a row, and to their right the legend, with the share of the picture that each
        class has; with ground truth, in both.

    Raises:
        ValueError: If photo and label maps differ in size, a label map holds a class without a name, there are more or
            fewer captions than pictures, or `opacity` is not from 0 to 1.
    """
    check_opacity(opacity)
    image = to_rgb(image)
    label_maps = [np.asarray(one) for one in (ground_truth, prediction) if one is not None]
    for label_map in label_maps:
        check_label_map(label_map, (image.height, image.width), id2label, ignore_index)
    if captions is None:
        captions = ["Photo", *["Ground truth"] * (len(label_maps) - 1), "Prediction"]
    if len(captions) != 1 + len(label_maps):
        raise ValueError(f"Got {len(captions)} captions for {1 + len(label_maps)} pictures: give one for each.")
    colors = class_colors(id2label, colors)
    pictures = [image, *(tint(image, one, colors, opacity, ignore_index) for one in label_maps)]
    text_size = text_size_for(*image.size)
    row = arrange(list(zip(captions, pictures)), len(pictures), text_size)

    shares = np.array([class_shares(label_map, len(colors), ignore_index) for label_map in label_maps])
    entries = [
        (colors[class_id], id2label[class_id], *map(format_share, shares[:, class_id]))
        for class_id in by_size(shares.max(axis=0))
    ]
    headings = ("truth", "prediction") if len(label_maps) > 1 else ()
    legend = draw_legend(entries, row.height, text_size, headings)
    return place_right(row, legend, top=0 if headings else _caption_line(text_size))


def arrange(pictures: Sequence[tuple[str, Image.Image]], num_columns: int, text_size: int) -> Image.Image:
    """
    Lay pictures out in rows, each with its caption above it.

    Args:
        pictures (`Sequence[tuple[str, PIL.Image.Image]]`):
            Captions and pictures.
        num_columns (`int`):
            Pictures in a row.
        text_size (`int`):
            Size of the captions in pixels.

    Returns:
        `PIL.Image.Image`: all of them on white.
    """
    font = load_font(text_size, [caption for caption, _ in pictures])
    gap, line = text_size, _caption_line(text_size)
    rows = [pictures[start : start + num_columns] for start in range(0, len(pictures), num_columns)]
    widths = [max(row[column][1].width for row in rows if column < len(row)) for column in range(len(rows[0]))]
    heights = [max(picture.height for _, picture in row) for row in rows]
    sheet = Image.new(
        "RGB", (sum(widths) + gap * (len(widths) + 1), sum(heights) + (line + gap // 2) * len(rows) + gap // 2), "white"
    )
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, height in zip(rows, heights):
        left = gap
        for (caption, picture), width in zip(row, widths):
            text = shorten(caption, font, width)
            draw.text((left, top + line * 0.6), text, fill=TEXT_COLOR, font=font, anchor="lm")
            sheet.paste(picture, (left, top + line))
            left += width + gap
        top += line + height + gap // 2
    return sheet


def _caption_line(text_size: int) -> int:
    return round(2.2 * text_size)
