# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Legends: columns of colour patches with names and numbers."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from .fonts import FAINT_TEXT_COLOR, TEXT_COLOR, load_font, shorten, text_size_for

_OUTLINE = (128, 132, 138)
# In units of the text's size.
_LINE = 1.65
_MARGIN = 1.0
_PATCH = 1.15
_NAME_LEFT = 1.7
_GAP_BEFORE_VALUE = 1.1
_GAP_BETWEEN_COLUMNS = 1.8
_WIDEST_NAME = 18


def draw_legend(
    entries: Sequence[tuple],
    height: int,
    text_size: int | None = None,
    headings: Sequence[str] = (),
) -> Image.Image:
    """
    Draw colour patches with names and numbers, one below the other.

    Args:
        entries (`Sequence[tuple]`): Colour and name of each class, and after them any number of texts such as its
            share: these are lined up on the right.
        height (`int`): Height of the image beside it in pixels. A legend that would be taller than this, and than it
            is wide, has more columns.
        text_size (`int`, *optional*): Size of the text in pixels; by default one that suits a square image of that
            height.
        headings (`Sequence[str]`, *optional*): Headings of the texts after the names, one for each.

    Returns:
        `PIL.Image.Image`: the legend on white, as large as it needs to be.
    """
    size = text_size_for(height, height) if text_size is None else text_size
    font = load_font(size, [*(text for _, *texts in entries for text in texts), *headings])
    rows = [(color, shorten(name, font, _WIDEST_NAME * size), *values) for color, name, *values in entries]
    top_row = [(None, "", *headings)] if headings or not rows else []
    for num_columns in range(1, max(len(rows), 1) + 1):
        length = -(-len(rows) // num_columns) or 1
        columns = [top_row + rows[start : start + length] for start in range(0, max(len(rows), 1), length)]
        ends = [_find_ends(column, font, size) for column in columns]
        width = sum(one[-1] for one in ends) + _GAP_BETWEEN_COLUMNS * size * (len(columns) - 1)
        needed = (_LINE * len(columns[0]) + _MARGIN) * size
        if needed <= max(height, width):
            break
    legend = Image.new("RGB", (round(width + 2 * _MARGIN * size), round(needed)), "white")
    draw = ImageDraw.Draw(legend)
    left = _MARGIN * size
    for column, column_ends in zip(columns, ends):
        for index, row in enumerate(column):
            _draw_row(draw, row, column_ends, font, size, left, (_MARGIN / 2 + _LINE * (index + 0.5)) * size)
        left += column_ends[-1] + _GAP_BETWEEN_COLUMNS * size
    return legend


def format_share(share: float) -> str:
    """Format a share from 0 to 1 in percent, never as 0 or 100 what is only close to it."""
    if 0 < share < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < share < 1 else f"{share:.1%}"


def _find_ends(column: list[tuple], font: ImageFont.FreeTypeFont, size: int) -> list[float]:
    """Find where the name and each value end, from the column's left."""
    _, *texts = zip(*column, strict=True)
    name_width, *value_widths = (max(map(font.getlength, texts_below)) for texts_below in texts)
    ends = [_NAME_LEFT * size + name_width]
    for width in value_widths:
        ends.append(ends[-1] + _GAP_BEFORE_VALUE * size + width)
    return ends


def _draw_row(
    draw: ImageDraw.ImageDraw,
    row: tuple,
    ends: list[float],
    font: ImageFont.FreeTypeFont,
    size: int,
    left: float,
    middle: float,
) -> None:
    """Draw patch, name and values of an entry; the row of headings has no patch."""
    color, name, *values = row
    if color is not None:
        top = middle - _PATCH * size / 2
        patch = (round(left), round(top), round(left + _PATCH * size), round(top + _PATCH * size))
        draw.rounded_rectangle(patch, size * 0.2, fill=tuple(color), outline=_OUTLINE, width=max(1, size // 16))
    draw.text((left + _NAME_LEFT * size, middle), name, fill=TEXT_COLOR, font=font, anchor="lm")
    for text, end in zip(values, ends[1:]):
        draw.text((left + end, middle), text, fill=FAINT_TEXT_COLOR, font=font, anchor="rm")
