# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures for reports: an image beside truth, prediction and errors, and the confusion matrix."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colors import Color, class_color
from .fonts import drawable
from .overlays import color_label_map, find_boundaries, find_ignored

_TILE = 480
_GAP = 8
_LINE = 18
_IGNORED: Color = (60, 60, 60)
_WRONG: Color = (230, 30, 40)
_DARKEST = np.array((8, 48, 107))
_SCALE = (0.0, 0.01, 0.1, 0.25, 0.5, 1.0)


def get_colors(num_labels: int, palette: Sequence[Color] | None = None) -> list[Color]:
    """The colour of each class, (red, green, blue) in 0 to 255: the palette's, or else those of `class_color`."""
    if palette is not None:
        return [tuple(color) for color in palette]
    return [class_color(class_id) for class_id in range(num_labels)]


def draw_panel(
    image: Image.Image,
    label_map: np.ndarray,
    prediction: np.ndarray,
    id2label: Mapping[int, str],
    palette: Sequence[Color] | None = None,
    ignore_index: int = 255,
    title: str = "",
) -> Image.Image:
    """
    Photo, truth, prediction and errors side by side in two rows, with a title and a legend.

    Args:
        image (`PIL.Image.Image`):
            The photo, of any size; it is shown at no more than 480 pixels a side.
        label_map (`numpy.ndarray` of shape `(height, width)` of the photo):
            The truth.
        prediction (`numpy.ndarray` of shape `(height, width)`):
            The predicted classes.
        id2label (`Mapping[int, str]`):
            Names of the classes.
        palette (`Sequence[tuple[int, int, int]]`, *optional*):
            Colours of the classes; by default those of `class_color`.
        ignore_index (`int`, *optional*, defaults to 255):
            The label that does not count; such pixels are dark grey, and no errors.
        title (`str`, *optional*):
            A line above all.

    Returns:
        `PIL.Image.Image`: four tiles, and to their right the classes of truth and prediction, the largest first, with
        their share of the photo in either.

    Raises:
        ValueError: If photo and maps differ in size.
    """
    size = (image.height, image.width)
    if label_map.shape != size or prediction.shape != size:
        raise ValueError(
            f"The photo has height and width {size}, the truth {label_map.shape} and the prediction "
            f"{prediction.shape}: they must be equal."
        )
    colors = get_colors(len(id2label), palette)
    title = _shorten(title, 160)
    scale = min(_TILE / max(size), 1)
    shown = tuple(max(round(length * scale), 1) for length in size)
    photo = image.convert("RGB").resize(shown[::-1], Image.Resampling.LANCZOS)
    truth, predicted = (_shrink(values, shown) for values in (label_map, prediction))
    tiles = {
        "Photo": photo,
        "Truth": color_label_map(truth, colors, ignore_index),
        "Prediction": color_label_map(predicted, colors, ignore_index),
        "Errors (red)": _mark_errors(photo, truth, predicted, ignore_index),
    }
    legend = _draw_legend(_describe_classes(label_map, prediction, id2label, ignore_index), colors)
    tile_width, tile_height = max(photo.width, 120), photo.height + _LINE + 4
    top = _LINE + 2 * _GAP
    height = max(top + 2 * (tile_height + _GAP), top + legend.height + _GAP)
    left = 2 * (tile_width + _GAP) + _GAP
    font = ImageFont.load_default(size=14)
    width = max(left + legend.width + _GAP, int(font.getlength(title)) + 2 * _GAP)
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, _GAP), title, fill="black", font=font)
    for index, (name, tile) in enumerate(tiles.items()):
        x = _GAP + index % 2 * (tile_width + _GAP)
        y = top + index // 2 * (tile_height + _GAP)
        draw.text((x, y), name, fill="black", font=font)
        canvas.paste(tile, (x, y + _LINE + 2))
    canvas.paste(legend, (left, top))
    return canvas


def draw_confusion_matrix(matrix: np.ndarray, id2label: Mapping[int, str]) -> Image.Image:
    """
    Draw how the pixels of each true class were predicted, each row as shares of its own pixels.

    Args:
        matrix (`numpy.ndarray` of shape `(num_labels, num_labels)`):
            Pixels by true class (rows) and predicted class (columns).
        id2label (`Mapping[int, str]`):
            Names of the classes.

    Returns:
        `PIL.Image.Image`: the matrix with names; where there is room, with percentages. The shade grows with the
        square root of the share, so that rare confusions show. Rows of classes that do not occur are grey.
    """
    num_labels = len(matrix)
    cell = int(np.clip(1200 // num_labels, 11, 56))
    font = ImageFont.load_default(size=min(max(cell - 2, 9), 14))
    names = [_shorten(id2label[class_id]) for class_id in range(num_labels)]
    margin = int(max(font.getlength(name) for name in names)) + 2 * _GAP
    header = margin + 3 * _LINE
    side = cell * num_labels
    caption = ImageFont.load_default(size=14)
    title = "Rows: truth. Columns: prediction. Share of the true class's pixels."
    scale = _draw_scale(caption)
    width = max(margin + side, _GAP + int(caption.getlength(title)) + 1, _GAP + scale.width) + _GAP
    canvas = Image.new("RGB", (width, header + side + 3 * _LINE), "white")
    draw = ImageDraw.Draw(canvas)

    pixels = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(pixels, 1)
    shades = np.where(pixels[..., None] > 0, _shade(shares), 225).astype(np.uint8)
    picture = Image.fromarray(shades).resize((side, side), Image.Resampling.NEAREST)
    canvas.paste(picture, (margin, header))

    draw.text((_GAP, _GAP), title, fill="black", font=caption)
    _draw_names(canvas, draw, names, font, cell, (margin, header))
    if cell >= 30:
        _draw_percentages(draw, shares, pixels[:, 0], cell, (margin, header))
    canvas.paste(scale, (_GAP, header + side + _LINE // 2))
    return canvas


def _shrink(label_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Every so many labels, at the centres of the new pixels."""
    rows, columns = (
        ((np.arange(target) + 0.5) * (length / target)).astype(np.int64)
        for length, target in zip(label_map.shape, size)
    )
    return label_map[rows][:, columns]


def _mark_errors(photo: Image.Image, truth: np.ndarray, predicted: np.ndarray, ignore_index: int) -> Image.Image:
    """The photo in light grey, wrong pixels red, ignored ones dark, and the outlines of the truth."""
    grey = 128 + np.asarray(photo.convert("L"), dtype=np.uint8) // 2
    canvas = np.repeat(grey[..., None], 3, axis=2)
    ignored = find_ignored(truth, ignore_index)
    wrong = (truth != predicted) & ~ignored
    canvas[wrong] = 0.35 * canvas[wrong] + 0.65 * np.array(_WRONG)
    canvas[ignored] = _IGNORED
    canvas[find_boundaries(truth)] = 0
    return Image.fromarray(canvas)


def _describe_classes(
    label_map: np.ndarray, prediction: np.ndarray, id2label: Mapping[int, str], ignore_index: int
) -> list[tuple[int | None, str]]:
    """Class id, None for ignored pixels, and caption of what is there, the largest first."""
    ignored = find_ignored(label_map, ignore_index)
    counts = [
        np.bincount(values[~ignored].astype(np.int64), minlength=len(id2label)) for values in (label_map, prediction)
    ]
    order = np.argsort(-np.maximum(*counts), kind="stable")
    entries: list[tuple[int | None, str]] = [
        (
            int(class_id),
            f"{_shorten(id2label[int(class_id)], 60)}  {counts[0][class_id] / label_map.size:.1%}, "
            f"{counts[1][class_id] / label_map.size:.1%}",
        )
        for class_id in order
        if counts[0][class_id] or counts[1][class_id]
    ]
    return [*entries, (None, f"ignored  {ignored.mean():.1%}")] if ignored.any() else entries


def _draw_legend(entries: list[tuple[int | None, str]], colors: Sequence[Color]) -> Image.Image:
    """A column of colour patches with captions under a heading."""
    font = ImageFont.load_default(size=13)
    heading = "Share of the photo: truth, prediction"
    widest = max(font.getlength(caption) for caption in [heading, *(caption for _, caption in entries)])
    legend = Image.new("RGB", (int(widest) + 2 * _LINE, _LINE * (len(entries) + 1)), "white")
    draw = ImageDraw.Draw(legend)
    draw.text((0, 0), heading, fill="black", font=font)
    for index, (class_id, caption) in enumerate(entries, start=1):
        color = _IGNORED if class_id is None else colors[class_id]
        draw.rectangle((0, index * _LINE + 2, _LINE, (index + 1) * _LINE - 3), fill=color, outline="black")
        draw.text((_LINE + 6, index * _LINE + _LINE / 2), caption, fill="black", font=font, anchor="lm")
    return legend


def _shade(shares: np.ndarray) -> np.ndarray:
    """White for 0 to dark blue for 1, (..., 3), 0 to 255."""
    return 255 - np.sqrt(shares)[..., None] * (255 - _DARKEST)


def _draw_names(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    names: list[str],
    font: ImageFont.ImageFont,
    cell: int,
    corner: tuple[int, int],
) -> None:
    """Names to the left of the rows, and above the columns from bottom to top."""
    left, top = corner
    for index, name in enumerate(names):
        middle = index * cell + cell / 2
        draw.text((left - 4, top + middle), name, fill="black", font=font, anchor="rm")
        strip = Image.new("RGB", (left, cell), "white")
        ImageDraw.Draw(strip).text((4, cell / 2), name, fill="black", font=font, anchor="lm")
        canvas.paste(strip.rotate(90, expand=True), (left + index * cell, top - left))


def _draw_percentages(
    draw: ImageDraw.ImageDraw, shares: np.ndarray, pixels: np.ndarray, cell: int, corner: tuple[int, int]
) -> None:
    font = ImageFont.load_default(size=min(cell / 3, 14))
    for row, column in zip(*np.nonzero((shares >= 0.005) & (pixels[:, None] > 0))):
        share = shares[row, column]
        center = (corner[0] + (column + 0.5) * cell, corner[1] + (row + 0.5) * cell)
        draw.text(center, f"{share:.0%}", fill="white" if share > 0.2 else "black", font=font, anchor="mm")


def _draw_scale(font: ImageFont.ImageFont) -> Image.Image:
    """What the shades mean, side by side."""
    entries = [(f"{share:.0%}", tuple(int(value) for value in _shade(np.array(share)))) for share in _SCALE]
    entries.append(("no such pixels", (225, 225, 225)))
    lengths = [_LINE + 4 + int(font.getlength(text)) + 1 for text, _ in entries]
    scale = Image.new("RGB", (sum(lengths) + 2 * _GAP * (len(entries) - 1), _LINE), "white")
    draw = ImageDraw.Draw(scale)
    x = 0
    for (text, color), length in zip(entries, lengths):
        draw.rectangle((x, 0, x + _LINE, _LINE - 4), fill=color, outline="black")
        draw.text((x + _LINE + 4, _LINE / 2 - 2), text, fill="black", font=font, anchor="lm")
        x += length + 2 * _GAP
    return scale


def _shorten(name: str, length: int = 24) -> str:
    name = drawable(name)
    return name if len(name) <= length else name[: length - 3] + "..."
