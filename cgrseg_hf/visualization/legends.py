# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Legends: columns of colour patches with names and numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .colors import Color
from .fonts import FAINT_TEXT_COLOR, TEXT_COLOR, load_font, shorten, text_size_for

_OUTLINE = (128, 132, 138)
# In units of the text's size.
_LINE = 1.65
_MARGIN = 1.0
_PATCH = 1.15
_GAP_AFTER_PATCH = 0.55
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
        entries (`Sequence[tuple]`):
            Colour and name of each class, and after them any number of texts such as its share: these are lined up on
            the right.
        height (`int`):
            Height of the image beside it in pixels. A legend that would be taller than this, and than it is wide, has
            more columns.
        text_size (`int`, *optional*):
            Size of the text in pixels; by default one that suits a square image of that height.
        headings (`Sequence[str]`, *optional*):
            Headings of the texts after the names, one for each.

    Returns:
        `PIL.Image.Image`: the legend on white, as large as it needs to be.
    """
    size = text_size_for(height, height) if text_size is None else text_size
    rows = [_Row(*entry[:2], tuple(entry[2:])) for entry in entries]
    font = load_font(size, [*(text for row in rows for text in (row.name, *row.values)), *headings])
    rows = [row._replace(name=shorten(row.name, font, _WIDEST_NAME * size)) for row in rows]
    for num_columns in range(1, max(len(rows), 1) + 1):
        columns = _split(rows, num_columns)
        ends = [_measure(column, headings, font, size) for column in columns]
        width = sum(one[-1] for one in ends) + _GAP_BETWEEN_COLUMNS * size * (len(columns) - 1)
        needed = (_LINE * (len(columns[0]) + bool(headings)) + _MARGIN) * size
        if needed <= max(height, width):
            break
    legend = Image.new("RGB", (round(width + 2 * _MARGIN * size), round(needed)), "white")
    draw = ImageDraw.Draw(legend)
    left = _MARGIN * size
    for column, column_ends in zip(columns, ends):
        _draw_column(draw, column, headings, column_ends, font, size, left)
        left += column_ends[-1] + _GAP_BETWEEN_COLUMNS * size
    return legend


def format_share(share: float) -> str:
    """A share from 0 to 1 in percent, never 0 or 100 for what is only close to it."""
    if 0 < share < 0.001:
        return "<0.1%"
    return ">99.9%" if 0.999 < share < 1 else f"{share:.1%}"


class _Row(NamedTuple):
    color: Color
    name: str
    values: tuple[str, ...]


def _split(rows: list[_Row], num_columns: int) -> list[list[_Row]]:
    length = -(-len(rows) // num_columns) or 1
    return [rows[start : start + length] for start in range(0, len(rows), length)] or [[]]


def _measure(column: list[_Row], headings: Sequence[str], font: ImageFont.FreeTypeFont, size: int) -> list[float]:
    """Where the name and each value end, from the column's left."""
    name_width = max((font.getlength(row.name) for row in column), default=0)
    ends = [(_PATCH + _GAP_AFTER_PATCH) * size + name_width]
    for index, texts in enumerate(zip(*(row.values for row in column), strict=True)):
        widest = max(font.getlength(text) for text in [*texts, *headings[index : index + 1]])
        ends.append(ends[-1] + _GAP_BEFORE_VALUE * size + widest)
    return ends


def _draw_column(
    draw: ImageDraw.ImageDraw,
    column: list[_Row],
    headings: Sequence[str],
    ends: list[float],
    font: ImageFont.FreeTypeFont,
    size: int,
    left: float,
) -> None:
    middle = (_MARGIN / 2 + _LINE / 2) * size
    for heading, end in zip(headings, ends[1:]):
        draw.text((left + end, middle), heading, fill=FAINT_TEXT_COLOR, font=font, anchor="rm")
    middle += _LINE * size * bool(headings)
    for row in column:
        top = middle - _PATCH * size / 2
        patch = (round(left), round(top), round(left + _PATCH * size), round(top + _PATCH * size))
        draw.rounded_rectangle(patch, size * 0.2, fill=tuple(row.color), outline=_OUTLINE, width=max(1, size // 16))
        name_left = left + (_PATCH + _GAP_AFTER_PATCH) * size
        draw.text((name_left, middle), row.name, fill=TEXT_COLOR, font=font, anchor="lm")
        for text, end in zip(row.values, ends[1:]):
            draw.text((left + end, middle), text, fill=FAINT_TEXT_COLOR, font=font, anchor="rm")
        middle += _LINE * size
