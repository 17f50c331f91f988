# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Numbers over photos: class scores, entropy, attention, with a colour bar that says what the colours mean."""

import itertools
import math
from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw

from ..utils.messages import did_you_mean
from .fonts import FAINT_TEXT_COLOR, TEXT_COLOR, load_font, shorten, text_size_for
from .overlays import place_right
from .photos import check_opacity, to_rgb

ColorMapName = Literal["viridis", "inferno"]

# Every fifteenth of the 256 colours of matplotlib's maps of these names, by Smith and van der Walt (CC0).
_ANCHORS: dict[str, str] = {
    "viridis": "440154 481769 472a7a 433d84 3d4e8a 355e8d 2e6d8e 297b8e 23898e 1f978b 21a585 2eb37c 46c06f 65cb5e "
    "89d548 b0dd2f d8e219 fde725",
    "inferno": "000004 0a0722 1e0c45 380962 510e6c 69166e 801f6c 982766 b0315b c63d4d d94d3d e9612b f47918 fa9407 "
    "fcb014 f8cd37 f2ea69 fcffa4",
}
# What is left of the colours' opacity at the lowest number, where they fade.
_FADED = 0.25
# Steps between numbers that people count in.
_ROUND_STEPS = (1, 2, 2.5, 5, 10)


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
    Lay a map of numbers over its photo, with a colour bar.

    Args:
        image (`PIL.Image.Image`):
            The photo; it is turned as its EXIF says, and shown in grey, so that all colour comes from the numbers.
        values (`numpy.ndarray` of shape `(height, width)`):
            The numbers, at any resolution: they are resized bilinearly to the photo, all of which they cover. Where
            they are NaN, the photo stays as it is.
        caption (`str`, *optional*):
            What the numbers are, such as `"entropy, nats"`; stands over the colour bar.
        minimum (`float`, *optional*), maximum (`float`, *optional*):
            Numbers at the ends of the colour bar; what lies beyond is shown as these. By default the smallest and the
            largest that there are.
        color_map (`str`, *optional*, defaults to `"viridis"`):
            `"viridis"` or `"inferno"`: equal steps of the numbers look equal, to colour-blind readers and in grey too.
        opacity (`float`, *optional*, defaults to 0.65):
            How much of the colours, 0 to 1, covers the photo.
        fade (`bool`, *optional*, defaults to `False`):
            Whether less of them covers it the lower the number, so that the photo can be seen where there is nothing.

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
    colored = Image.fromarray(apply_color_map(position, color_map))
    grey = image.convert("L").convert("RGB")
    if fade:
        cover = opacity * (_FADED + (1 - _FADED) * np.clip(position, 0, 1))
        picture = Image.composite(colored, grey, Image.fromarray((cover * 255).round().astype(np.uint8)))
    else:
        picture = Image.blend(grey, colored, opacity)
    if not is_number.all():
        picture = Image.composite(picture, image, Image.fromarray(is_number))
    bar = _draw_color_bar(color_map, lower, upper, image.height, text_size_for(*image.size), caption)
    return place_right(picture, bar)


def draw_class_heat_map(
    image: Image.Image,
    scores: np.ndarray,
    class_name: str | int,
    id2label: Mapping[int, str],
    color_map: ColorMapName = "viridis",
    opacity: float = 0.65,
) -> Image.Image:
    """
    Lay the probability of one class over its photo.

    Args:
        image (`PIL.Image.Image`):
            The photo.
        scores (`numpy.ndarray` of shape `(num_labels, height, width)`):
            Class scores before softmax, at any resolution: a segmentation's `scores`, or logits of one photo that
            cover it exactly.
        class_name (`str` or `int`):
            Name or id of the class.
        id2label (`Mapping[int, str]`):
            Names of the classes.
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
    Lay over a photo how undecided the model is.

    Args:
        image (`PIL.Image.Image`):
            The photo.
        entropy (`numpy.ndarray` of shape `(height, width)`):
            Entropy of the classes' probabilities in nats, such as a segmentation's `entropy`.
        num_labels (`int`):
            Number of classes: the scale goes from 0, where one class is certain, to ln(num_labels), where all are
            equally likely.
        color_map (`str`, *optional*, defaults to `"inferno"`), opacity (`float`, *optional*, defaults to 0.65):
            See [`draw_heat_map`].

    Returns:
        `PIL.Image.Image`: the photo with the entropy at each pixel.

    Raises:
        ValueError: If `entropy` is `None`, as of a segmentation that did not keep it, or has other than two dimensions.
    """
    if entropy is None:
        raise ValueError("Got None for the entropy: segment with return_entropy=True, which keeps it.")
    return draw_heat_map(
        image,
        entropy,
        "entropy, nats",
        minimum=0,
        maximum=math.log(max(num_labels, 2)),
        color_map=color_map,
        opacity=opacity,
    )


def find_class(class_name: str | int, id2label: Mapping[int, str]) -> int:
    """
    The id of a class that somebody names.

    Args:
        class_name (`str` or `int`): Its name or id.
        id2label (`Mapping[int, str]`): Names of the classes.

    Raises:
        ValueError: If there is none; with the class whose name is most like it.
    """
    for class_id, name in id2label.items():
        if class_name in (name, class_id):
            return class_id
    names = [str(name) for _, name in sorted(id2label.items())]
    hint = did_you_mean(str(class_name), names)
    raise ValueError(f"No class is named {class_name!r}.{hint} The classes are {', '.join(names)}.")


def apply_color_map(position: np.ndarray, color_map: ColorMapName = "viridis") -> np.ndarray:
    """
    Colours of numbers in 0 to 1, (..., 3), uint8; what lies beyond has the colours of the ends.

    Raises:
        ValueError: If there is no such colour map.
    """
    if color_map not in _ANCHORS:
        raise ValueError(f"No colour map is named {color_map!r}: use one of {', '.join(get_args(ColorMapName))}.")
    anchors = np.array([list(bytes.fromhex(anchor)) for anchor in _ANCHORS[color_map].split()])
    levels = np.linspace(0, len(anchors) - 1, 256)
    table = np.stack([np.interp(levels, np.arange(len(anchors)), channel) for channel in anchors.T], axis=1)
    indices = np.clip(np.nan_to_num(position) * 255, 0, 255).round().astype(np.uint8)
    return table.round().astype(np.uint8)[indices]


def resize_values(
    values: np.ndarray, size: tuple[int, int], covered: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    Resize a map of numbers bilinearly, corners not aligned.

    Args:
        values (`numpy.ndarray` of shape `(height, width)`, float32):
            The numbers; those that are not finite leave gaps.
        size (`tuple[int, int]`):
            Height and width to resize to.
        covered (`tuple[float, float]`, *optional*):
            Rows and columns of `values`, from the first on, that belong to the picture; by default all.

    Returns:
        `tuple[numpy.ndarray, numpy.ndarray]`: the numbers, float32, and where there are any, bool, both of that size.
    """
    rows, columns = values.shape if covered is None else covered

    def resize(array: np.ndarray) -> np.ndarray:
        return np.asarray(
            Image.fromarray(array.astype(np.float32)).resize(
                size[::-1], Image.Resampling.BILINEAR, box=(0, 0, columns, rows)
            )
        )

    finite = np.isfinite(values)
    if finite.all():
        return resize(values), np.ones(size, dtype=bool)
    weight = resize(finite)
    is_number = weight >= 0.5
    return resize(np.where(finite, values, 0)) / np.where(is_number, weight, 1), is_number


def _draw_color_bar(
    color_map: ColorMapName, lower: float, upper: float, height: int, text_size: int, caption: str
) -> Image.Image:
    """A bar from `upper` at its top to `lower`, with numbers to its right and the caption above, on white."""
    ticks = _round_numbers(lower, upper, max(2, min(6, height // (3 * text_size))))
    numbers = format_numbers(ticks)
    font = load_font(text_size, [caption, *numbers])
    caption = shorten(caption, font, 16 * text_size)
    margin, bar_width = text_size, round(text_size * 1.2)
    top = margin + (2 * text_size if caption else 0)
    length = max(height - top - margin, 5 * text_size)
    label_left = margin + bar_width + text_size * 0.9
    widest = max(label_left + max(map(font.getlength, numbers)), margin + font.getlength(caption))
    picture = Image.new("RGB", (round(widest) + margin, max(height, top + length + margin)), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((margin, margin + text_size / 2), caption, fill=TEXT_COLOR, font=font, anchor="lm")
    shades = apply_color_map(np.linspace(1, 0, length)[:, None], color_map)
    picture.paste(Image.fromarray(shades).resize((bar_width, length)), (margin, top))
    line = max(1, text_size // 13)
    for tick, number in zip(ticks, numbers):
        share = 0.5 if lower == upper else (tick - lower) / (upper - lower)
        y = round(top + (1 - share) * (length - 1))
        right = margin + bar_width
        draw.rectangle((right, y - line // 2, right + text_size * 0.4, y - line // 2 + line - 1), fill=FAINT_TEXT_COLOR)
        draw.text((label_left, y), number, fill=TEXT_COLOR, font=font, anchor="lm")
    return picture


def _round_numbers(lower: float, upper: float, most: int) -> list[float]:
    """No more than so many round numbers from `lower` to `upper`, and the two themselves where none are."""
    if lower == upper:
        return [lower]
    unit = 10.0 ** math.floor(math.log10((upper - lower) / most))
    for step in (unit * factor for factor in _ROUND_STEPS):
        first, last = math.ceil(lower / step - 1e-9), math.floor(upper / step + 1e-9)
        if last - first < most:
            break
    return [index * step for index in range(first, last + 1)] or [lower, upper]


def format_numbers(numbers: list[float]) -> list[str]:
    """Numbers with as many digits as tell them apart, all with the same."""
    largest = max(map(abs, numbers))
    if largest and not 1e-3 <= largest < 1e5:
        return [f"{number:.3g}" for number in numbers]
    gap = min((abs(after - before) for before, after in itertools.pairwise(numbers)), default=largest or 1)
    decimals = next((one for one in range(7) if abs(round(gap, one) - gap) <= gap * 1e-6), 3)
    return [f"{number:.{decimals}f}" for number in numbers]
