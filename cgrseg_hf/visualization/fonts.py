# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Text in images: fonts that have the characters, and sizes that suit the image."""

import functools
from collections.abc import Iterable

from PIL import ImageFont

TEXT_COLOR = (32, 33, 36)
FAINT_TEXT_COLOR = (95, 99, 104)

_SMALLEST_TEXT = 13
# Installed with operating systems, from the plainest to those that cover most scripts.
_SYSTEM_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "wqy-zenhei.ttc",
)
# Characters of a text that are read: no image has room for more.
_LONGEST_TEXT = 500
# A character that no font has: it shows what fonts draw instead.
_MISSING = "\uffff"


def text_size_for(width: int, height: int) -> int:
    """Size of text in pixels beside an image: it grows with the image, and stays readable beside small ones."""
    return max(_SMALLEST_TEXT, round((width * height) ** 0.5 / 40))


def load_font(size: float, texts: Iterable[str] = ()) -> ImageFont.FreeTypeFont:
    """
    Load Pillow's own font or, if it lacks a character of the texts, the first installed one that has them all.

    If none has them all, load the font that lacks the fewest.
    """
    characters = frozenset("".join(map(drawable, texts)))
    if not _missing(None, characters):
        return _load(None, size)
    name = min((None, *_SYSTEM_FONTS), key=lambda name: len(_missing(name, characters)))
    return _load(name, size)


def shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut a text with dots if it is wider than so many pixels, and replace characters that cannot be drawn."""
    text = drawable(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}..."


def drawable(text: str) -> str:
    """Replace control characters and halves of characters, at which text layout fails."""
    return "".join(one if one.isprintable() else "\ufffd" for one in text[:_LONGEST_TEXT])


@functools.lru_cache(maxsize=256)
def _missing(name: str | None, characters: frozenset[str]) -> frozenset[str]:
    font = _load(name, 20)
    if font is None:
        return characters | {_MISSING}  # one more than any font lacks
    box = bytes(font.getmask(_MISSING))
    return frozenset(one for one in characters if not one.isspace() and bytes(font.getmask(one)) == box)


@functools.lru_cache(maxsize=64)
def _load(name: str | None, size: float) -> ImageFont.FreeTypeFont | None:
    if name is None:
        return ImageFont.load_default(size=size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
