# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Numbers over photos, such as class scores and entropy, with a colour bar."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ..utils.messages import did_you_mean
from .fonts import text_size_for
from .overlays import check_opacity, place_right, to_rgb
from .plots import draw_color_bar

ColorMapName = Literal["viridis", "inferno"]

# Share of the opacity that is left at the lowest number, where colours fade.
_FADED = 0.25


def draw_heat_map(
    image: Image.Image,
    values: np.ndarray,
    caption: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    color_map: ColorMapName = "viridis",
    opacity: float = 0.65,
    fade: bool = False,
) -> Image.Image:
    """
    Draw a map of numbers over its photo, with a colour bar.

    Args:
        image (`PIL.Image.Image`): The photo; it is turned as its EXIF says, and shown in grey, so that all colour
            comes from the numbers.
        values (`numpy.ndarray` of shape `(height, width)`): The numbers, at any resolution: they are resized
            bilinearly to the whole photo. Where they are NaN, the photo stays as it is.
        caption (`str`, *optional*): Text above the colour bar, such as `"entropy, nats"`.
        minimum (`float`, *optional*), maximum (`float`, *optional*): Numbers at the ends of the colour bar; what is
            beyond is shown as these. By default the smallest and the largest of `values`.
        color_map (`str`, *optional*, defaults to `"viridis"`): `"viridis"` or `"inferno"`: equal steps of the numbers
            look equal, to colour-blind readers and in grey too.
        opacity (`float`, *optional*, defaults to 0.65): Opacity of the colours, 0 to 1.
        fade (`bool`, *optional*, defaults to `False`): Whether low numbers have less of this opacity.

    Returns:
        `PIL.Image.Image`: the photo with colours, and to its right the colour bar.

    Raises:
        ValueError: If `values` has other than two dimensions or no number, there is no such colour map, `minimum` is
            larger than `maximum`, or `opacity` is not from 0 to 1.
    """
    check_opacity(opacity)
    image = to_rgb(image)
    values = np.asarray(values, dtype=np.float32)
    if values.ndim != 2 or not np.isfinite(values).any():
        raise ValueError(
            f"Got values of shape {values.shape}{'' if values.ndim != 2 else ' without a finite number'}: a heat map "
            "takes numbers (height, width), of one class or channel."
        )
    finite = values[np.isfinite(values)]
    lower = float(finite.min()) if minimum is None else minimum
    upper = float(finite.max()) if maximum is None else maximum
    if lower > upper:
        raise ValueError(f"The colour bar would go from {lower} up to {upper}: give minimum and maximum that ascend.")
    resized, is_number = resize_values(values, (image.height, image.width))
    position = np.full_like(resized, 0.5) if lower == upper else (resized - lower) / (upper - lower)
    position = position.clip(0, 1)
    colored = Image.fromarray(apply_color_map(position, color_map))
    cover = opacity * (_FADED + (1 - _FADED) * position if fade else np.ones_like(position))
    mask = Image.fromarray((cover * 255).round().astype(np.uint8))
    blended = Image.composite(colored, image.convert("L").convert("RGB"), mask)
    if not is_number.all():
        blended = Image.composite(blended, image, Image.fromarray(is_number))
    bar = draw_color_bar(color_map, lower, upper, image.height, text_size_for(*image.size), caption)
    return place_right(blended, bar)


def draw_class_heat_map(
    image: Image.Image,
    scores: np.ndarray,
    class_name: str | int,
    id2label: Mapping[int, str],
    color_map: ColorMapName = "viridis",
    opacity: float = 0.65,
) -> Image.Image:
    """
    Draw the probability of one class over its photo.

    Args:
        image (`PIL.Image.Image`): The photo.
        scores (`numpy.ndarray` of shape `(num_labels, height, width)`): Class scores before softmax, at any
            resolution: a segmentation's `scores`, or logits of one photo that cover it exactly.
        class_name (`str` or `int`): Name or id of the class.
        id2label (`Mapping[int, str]`): Names of the classes.
        color_map (`str`, *optional*, defaults to `"viridis"`), opacity (`float`, *optional*, defaults to 0.65):
            See [`draw_heat_map`].

    Returns:
        `PIL.Image.Image`: the photo with the class's probability at each pixel, on a scale from 0 to 1.

    Raises:
        ValueError: If there is no such class, or `scores` has another shape.
    """
    num_labels = max(id2label, default=-1) + 1
    if scores is None:
        raise ValueError("Got None for the scores: segment with return_scores=True, which keeps them.")
    scores = np.asarray(scores, dtype=np.float32)
    if scores.ndim != 3 or len(scores) != num_labels:
        raise ValueError(
            f"Got scores of shape {scores.shape}, but (num_labels={num_labels}, height, width) is expected: those "
            "of one photo, for every class."
        )
    class_id = find_class(class_name, id2label)
    highest = scores.max(axis=0)
    normalizer = sum(np.exp(of_class - highest) for of_class in scores)  # by class: no second copy of all scores
    probability = np.exp(scores[class_id] - highest) / normalizer
    caption = f"probability of {id2label[class_id]}"
    return draw_heat_map(image, probability, caption, 0, 1, color_map, opacity, fade=True)


def draw_entropy_map(
    image: Image.Image,
    entropy: np.ndarray,
    num_labels: int,
    color_map: ColorMapName = "inferno",
    opacity: float = 0.65,
) -> Image.Image:
    """
    Draw the entropy of the classes' probabilities over a photo: high where the model is undecided.

    Args:
        image (`PIL.Image.Image`): The photo.
        entropy (`numpy.ndarray` of shape `(height, width)`): Entropy in nats, such as a segmentation's `entropy`.
        num_labels (`int`): Number of classes: the scale goes from 0, where one class is certain, to ln(num_labels),
            where all are equally likely.
        color_map (`str`, *optional*, defaults to `"inferno"`), opacity (`float`, *optional*, defaults to 0.65):
            See [`draw_heat_map`].

    Returns:
        `PIL.Image.Image`: the photo with the entropy at each pixel.

    Raises:
        ValueError: If `entropy` is `None`, because the segmentation did not keep it, or has other than two dimensions.
    """
    if entropy is None:
        raise ValueError("Got None for the entropy: segment with return_entropy=True, which keeps it.")
    return draw_heat_map(image, entropy, "entropy, nats", 0, math.log(max(num_labels, 2)), color_map, opacity)


def find_class(class_name: str | int, id2label: Mapping[int, str]) -> int:
    """Find the id of a class by its name or id; a `ValueError` suggests the most similar name."""
    for class_id, name in id2label.items():
        if class_name in (name, class_id):
            return class_id
    names = [str(name) for _, name in sorted(id2label.items())]
    hint = did_you_mean(str(class_name), names)
    raise ValueError(f"No class is named {class_name!r}.{hint} The classes are {', '.join(names)}.")


def apply_color_map(position: np.ndarray, color_map: ColorMapName = "viridis") -> np.ndarray:
    """Map numbers from 0 to 1 to colours (..., 3), uint8."""
    from matplotlib import colormaps

    if color_map not in get_args(ColorMapName):
        raise ValueError(f"No colour map is named {color_map!r}: use one of {', '.join(get_args(ColorMapName))}.")
    return colormaps[color_map](position, bytes=True)[..., :3]


def resize_values(
    values: np.ndarray, size: tuple[int, int], covered: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Resize a map of numbers bilinearly, corners not aligned; where they are not finite, it has gaps.

    Args:
        values (`numpy.ndarray` of shape `(height, width)`, float32): The numbers.
        size (`tuple[int, int]`): Height and width to resize to.
        covered (`tuple[float, float]`, *optional*): Rows and columns of `values`, from the first on, that belong to
            the image; by default all.

    Returns:
        `tuple[numpy.ndarray, numpy.ndarray]`: the numbers, float32, and where there are any, bool, both of that size.
    """
    rows, columns = values.shape if covered is None else covered

    def resize(array: np.ndarray) -> np.ndarray:
        image = Image.fromarray(array.astype(np.float32))
        return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=(0, 0, columns, rows)))

    finite = np.isfinite(values)
    if finite.all():
        return resize(values), np.ones(size, dtype=bool)
    weight = resize(finite)
    is_number = weight >= 0.5
    return resize(np.where(finite, values, 0)) / np.where(is_number, weight, 1), is_number
