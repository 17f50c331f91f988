# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Plots by matplotlib as images: colour bars, the weights of the prototype, and the confusion matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from .colors import Color, class_colors
from .fonts import load_font, shorten
from .legends import format_share

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

_DPI = 72  # so that a point of text is a pixel
_TEXT_SIZE = 14
_WIDEST_NAME = 16  # in units of the text's size


def draw_color_bar(
    color_map: str, lower: float, upper: float, height: int, text_size: int, caption: str
) -> Image.Image:
    """Draw a colour bar as high as the image beside it, with numbers from `lower` to `upper`, and a caption above."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    width, height = (_WIDEST_NAME + 4) * text_size, max(height, 9 * text_size)
    length = height - (4 if caption else 2) * text_size
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    axes = figure.add_axes((text_size / width, text_size / height, 1.2 * text_size / width, length / height))
    bar = figure.colorbar(ScalarMappable(Normalize(lower, upper), color_map), cax=axes)
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=text_size)
    (caption,), style = _fit_names([caption], text_size)
    axes.set_title(caption, loc="left", pad=text_size, **style)
    image = _render(figure)
    return image.crop((0, 0, ImageOps.invert(image).getbbox()[2] + text_size, height))


def draw_prototype_weights(
    weights: "np.ndarray | torch.Tensor",
    id2label: Mapping[int, str],
    colors: str | Sequence[Color] | None = None,
    max_classes: int = 12,
) -> Image.Image:
    """
    Draw the share of each class in the dynamic prototype as bars.

    Args:
        weights (`numpy.ndarray` or `torch.Tensor` of shape `(num_labels,)`): One image's row of
            [`RecordedAttention`]'s `prototype_weights`.
        id2label (`Mapping[int, str]`): Names of the classes.
        colors (`str` or `Sequence[tuple[int, int, int]]`, *optional*): A palette, see [`class_colors`].
        max_classes (`int`, *optional*, defaults to 12): Classes that get a bar, the largest first. The share of the
            others is written below.

    Returns:
        `PIL.Image.Image`: the bars with names and percentages.

    Raises:
        ValueError: If the number of weights is not that of the classes.
    """
    from matplotlib.figure import Figure

    weights = np.asarray(weights.float().cpu() if hasattr(weights, "cpu") else weights)
    if weights.shape != (len(id2label),):
        raise ValueError(
            f"Got weights of shape {weights.shape}, but ({len(id2label)},) is expected: those of one image, one for "
            "each class."
        )
    order = np.argsort(-weights, kind="stable")[:max_classes].tolist()
    num_left_out = len(weights) - len(order)
    rest = f"{num_left_out} more classes  {format_share(max(0.0, 1 - weights[order].sum()))}" if num_left_out else ""
    names, style = _fit_names([id2label[class_id] for class_id in order], _TEXT_SIZE)
    figure = Figure(figsize=(6, (len(order) + 1 + bool(rest)) / 3), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    bar_colors = np.array(class_colors(id2label, colors))[order] / 255
    bars = axes.barh(range(len(order)), weights[order], color=bar_colors, edgecolor="grey", linewidth=0.5)
    shares = [format_share(share) for share in weights[order].tolist()]
    axes.bar_label(bars, shares, padding=6, fontsize=_TEXT_SIZE, color="dimgrey")
    axes.set_yticks(range(len(order)), names, **style)
    axes.set_xticks([])
    axes.set_xlabel(rest, loc="left", fontsize=_TEXT_SIZE, color="dimgrey")
    axes.margins(x=0.2, y=0.02)
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return _render(figure)


def draw_confusion_matrix(matrix: np.ndarray, id2label: Mapping[int, str]) -> Image.Image:
    """
    Draw how the pixels of each true class were predicted, each row as shares of its own pixels.

    Args:
        matrix (`numpy.ndarray` of shape `(num_labels, num_labels)`): Pixels by true class (rows) and predicted class
            (columns).
        id2label (`Mapping[int, str]`): Names of the classes.

    Returns:
        `PIL.Image.Image`: the matrix with names, and with percentages where there is room. The shade grows with the
        square root of the share, so that rare confusions show. Rows of classes that do not occur are grey.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    num_labels = len(matrix)
    cell = int(np.clip(1200 // num_labels, 11, 56))
    side, text_size = cell * num_labels / _DPI, min(cell - 1, _TEXT_SIZE)
    pixels = matrix.sum(axis=1, keepdims=True)
    shares = np.ma.masked_array(matrix / np.maximum(pixels, 1), np.broadcast_to(pixels == 0, matrix.shape))
    figure = Figure(figsize=(side + 4, max(side + 3, 5.5)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("gainsboro")
    shades = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    names, style = _fit_names([id2label[class_id] for class_id in range(num_labels)], text_size)
    axes.set_xticks(range(num_labels), names, rotation=90, **style)
    axes.set_yticks(range(num_labels), names, **style)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.set_xlabel("prediction", fontsize=_TEXT_SIZE)
    axes.set_ylabel("truth", fontsize=_TEXT_SIZE)
    bar = figure.colorbar(shades, shrink=min(1, 4 / side), ticks=(0, 0.01, 0.1, 0.25, 0.5, 1), format="{x:.0%}")
    bar.set_label("share of the true class's pixels", fontsize=_TEXT_SIZE)
    if cell >= 30:
        for row, column in np.argwhere(shares.filled(0) >= 0.005):
            share = shares[row, column]
            color = "white" if share > 0.4 else "black"
            axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=cell / 4, color=color)
    return _render(figure)


def _fit_names(names: Sequence[str], size: int) -> tuple[list[str], dict[str, Any]]:
    """Shorten names to what is shown, and choose a style that shows them as they are, in a font that has them."""
    font = load_font(size, names)
    style: dict[str, Any] = {"fontsize": size, "parse_math": False}
    if isinstance(font.path, str):  # Pillow's own font has no file; matplotlib's own covers more characters
        style["font"] = Path(font.path)
    return [shorten(name, font, _WIDEST_NAME * size) for name in names], style


def _render(figure: "Figure") -> Image.Image:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
