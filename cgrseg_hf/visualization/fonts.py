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
    """Compute the size of text in pixels beside an image, which is readable beside small ones too."""
    return max(_SMALLEST_TEXT, round((width * height) ** 0.5 / 40))


def load_font(size: float, texts: Iterable[str] = ()) -> ImageFont.FreeTypeFont:
    """Load Pillow's own font or, if it lacks characters of the texts, the installed one that lacks the fewest."""
    characters = frozenset("".join(map(drawable, texts)))
    name = None
    if _count_missing(name, characters):
        name = min((None, *_SYSTEM_FONTS), key=lambda name: _count_missing(name, characters))
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
def _count_missing(name: str | None, characters: frozenset[str]) -> int:
    font = _load(name, 20)
    if font is None:
        return len(characters) + 1  # more than any font lacks
    box = bytes(font.getmask(_MISSING))
    return sum(bytes(font.getmask(one)) == box for one in characters if not one.isspace())


@functools.lru_cache(maxsize=64)
def _load(name: str | None, size: float) -> ImageFont.FreeTypeFont | None:
    if name is None:
        return ImageFont.load_default(size=size)
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
