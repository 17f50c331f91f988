# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Probabilities of a class as a picture."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# From 0 to 1: dark blue, violet, orange, light yellow; each lighter than the one before, so that it reads without hues.
_COLORS = np.array([(13, 18, 66), (104, 30, 122), (206, 66, 84), (249, 156, 54), (252, 246, 174)], dtype=np.float32)
_BAR_HEIGHT = 14


def draw_heat_map(image: Image.Image, values: np.ndarray, opacity: float = 0.75) -> Image.Image:
    """
    Lay values over a photo as colours, with a colour bar below.

    Args:
        image (`PIL.Image.Image`):
            The photo.
        values (`numpy.ndarray` of shape `(height, width)`, floating-point):
            A value from 0 to 1 for each of its pixels.
        opacity (`float`, *optional*, defaults to 0.75):
            How much of the colours, 0 to 1, covers the photo, which is shown in grey.

    Returns:
        `PIL.Image.Image`: the photo's size, and as much higher as the colour bar needs.
    """
    picture = Image.blend(image.convert("L").convert("RGB"), Image.fromarray(_to_colors(values)), opacity)
    size = max(12, round(image.width / 45))
    font = ImageFont.load_default(size)
    canvas = Image.new("RGB", (picture.width, picture.height + _BAR_HEIGHT + 2 * size), "white")
    canvas.paste(picture, (0, 0))
    bar = _to_colors(np.tile(np.linspace(0, 1, picture.width), (_BAR_HEIGHT, 1)))
    canvas.paste(Image.fromarray(bar), (0, picture.height + 4))
    draw = ImageDraw.Draw(canvas)
    middle = picture.height + _BAR_HEIGHT + 4 + size * 0.8
    for x, text, anchor in ((2, "0 %", "lm"), (picture.width / 2, "50 %", "mm"), (picture.width - 2, "100 %", "rm")):
        draw.text((x, middle), text, fill="black", font=font, anchor=anchor)
    return canvas


def _to_colors(values: np.ndarray) -> np.ndarray:
    positions = np.linspace(0, 1, len(_COLORS))
    channels = [np.interp(values, positions, _COLORS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
