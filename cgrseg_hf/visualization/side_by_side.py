# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Several images with captions on one sheet: the photo beside its label map, and beside the truth."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from .colors import Color, class_colors
from .fonts import TEXT_COLOR, load_font, shorten, text_size_for
from .legends import draw_legend
from .overlays import (
    IGNORED_COLOR,
    check_label_map,
    check_opacity,
    find_boundaries,
    find_ignored,
    list_classes,
    place_right,
    tint,
    to_rgb,
)

_WRONG: Color = (230, 30, 40)


def draw_side_by_side(
    image: Image.Image,
    prediction: np.ndarray,
    id2label: Mapping[int, str],
    ground_truth: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    opacity: float = 0.55,
    ignore_index: int = 255,
    colors: str | Sequence[Color] | None = None,
    show_errors: bool = False,
    max_side: int | None = None,
) -> Image.Image:
    """
    Draw the photo beside its label map, or beside ground truth and prediction, with captions and one legend.

    Args:
        image (`PIL.Image.Image`): The photo; it is turned as its EXIF says.
        prediction (`numpy.ndarray` of shape `(height, width)`): Class of each pixel of the turned photo.
        id2label (`Mapping[int, str]`): Names of the classes.
        ground_truth (`numpy.ndarray` of shape `(height, width)`, *optional*): The true classes, which are shown
            between photo and prediction.
        captions (`Sequence[str]`, *optional*): Texts above the images; by default "Photo", "Ground truth",
            "Prediction" and "Errors".
        opacity (`float`, *optional*, defaults to 0.55): Opacity of the classes' colours, 0 to 1.
        ignore_index (`int`, *optional*, defaults to 255): Label of the pixels that are left as they are.
        colors (`str` or `Sequence[tuple[int, int, int]]`, *optional*): A palette, see [`class_colors`].
        show_errors (`bool`, *optional*, defaults to `False`): Whether to add the photo in grey with wrong pixels in
            red. Needs `ground_truth`.
        max_side (`int`, *optional*): Show the photo with at most this many pixels at its longer side.

    Returns:
        `PIL.Image.Image`: the images in a row, four of them in two rows, and to their right the legend, with the share
        of each class in the label map; with ground truth, in both.

    Raises:
        ValueError: If photo and label maps differ in size, a label map holds a class without a name, the number of
            captions is not that of the images, or `opacity` is not from 0 to 1.
    """
    check_opacity(opacity)
    image = to_rgb(image)
    label_maps = [np.asarray(one) for one in (ground_truth, prediction) if one is not None]
    for label_map in label_maps:
        check_label_map(label_map, image, id2label, ignore_index)
    if show_errors and ground_truth is None:
        raise ValueError("show_errors=True needs ground_truth, with which the prediction is compared.")
    if captions is None:
        captions = ["Photo", *["Ground truth"] * (len(label_maps) - 1), "Prediction", *["Errors"] * show_errors]
    num_images = 1 + len(label_maps) + show_errors
    if len(captions) != num_images:
        raise ValueError(f"Got {len(captions)} captions for {num_images} images: give one for each.")
    colors = class_colors(id2label, colors)
    entries = list_classes(label_maps, id2label, colors, ignore_index)

    if max_side is not None:
        step = -(-max(image.size) // max_side)
        label_maps = [label_map[::step, ::step] for label_map in label_maps]
        image = image.resize(label_maps[0].shape[::-1], Image.Resampling.LANCZOS)
    images = [image, *(tint(image, label_map, colors, opacity, ignore_index) for label_map in label_maps)]
    if show_errors:
        images.append(_mark_errors(image, *label_maps, ignore_index))
    text_size = text_size_for(*image.size)
    sheet = arrange(list(zip(captions, images)), 2 if show_errors else num_images, text_size)
    headings = ("truth", "prediction") if len(label_maps) > 1 else ()
    legend = draw_legend(entries, sheet.height, text_size, headings)
    return place_right(sheet, legend, top=0 if headings else _caption_line(text_size))


def arrange(images: Sequence[tuple[str, Image.Image]], num_columns: int, text_size: int) -> Image.Image:
    """
    Arrange images of one size in rows on white, each below its caption.

    Args:
        images (`Sequence[tuple[str, PIL.Image.Image]]`): Captions and images.
        num_columns (`int`): Images in a row.
        text_size (`int`): Size of the captions in pixels.
    """
    font = load_font(text_size, [caption for caption, _ in images])
    gap, line = text_size, _caption_line(text_size)
    width, height = (max(lengths) for lengths in zip(*(image.size for _, image in images)))
    column_width, row_height = width + gap, line + height + gap // 2
    num_rows = -(-len(images) // num_columns)
    sheet = Image.new("RGB", (num_columns * column_width + gap, num_rows * row_height + gap // 2), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (caption, image) in enumerate(images):
        row, column = divmod(index, num_columns)
        left, top = gap + column * column_width, row * row_height
        text = shorten(caption, font, width)
        draw.text((left, top + line * 0.6), text, fill=TEXT_COLOR, font=font, anchor="lm")
        sheet.paste(image, (left, top + line))
    return sheet


def _mark_errors(image: Image.Image, truth: np.ndarray, prediction: np.ndarray, ignore_index: int) -> Image.Image:
    """Draw the photo in light grey with wrong pixels red, ignored ones dark, and the boundaries of the truth."""
    marked = np.asarray(image.convert("L").convert("RGB")) // 2 + 128
    ignored = find_ignored(truth, ignore_index)
    wrong = (truth != prediction) & ~ignored
    marked[wrong] = 0.35 * marked[wrong] + 0.65 * np.array(_WRONG)
    marked[ignored] = IGNORED_COLOR
    marked[find_boundaries(truth)] = 0
    return Image.fromarray(marked)


def _caption_line(text_size: int) -> int:
    return round(2.2 * text_size)
