# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Cards as files, which people change by hand: what they wrote is not written over."""

import hashlib
import re
from pathlib import Path

from huggingface_hub import ModelCard

# At the card's end, with a digest of what comes before: it tells a card that is as it was written.
_MARK = "\n<!-- written by cgrseg card, {digest} -->\n"
_MARKED = re.compile(_MARK.format(digest=r"([0-9a-f]+)") + r"\Z")


def check_may_write(path: Path, overwrite: bool = False) -> None:
    """
    See that a card is not there yet, or is as [`write_card`] wrote it.

    Raises:
        ValueError: If somebody else wrote or changed it, and it is not to be overwritten.
    """
    if overwrite or not path.exists():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    mark = _MARKED.search(text)
    if mark is None or mark[1] != _digest(text[: mark.start()]):
        raise ValueError(
            f"{path} was not written by `cgrseg card`, or somebody has changed it since: take what you need of it into "
            "the facts, and add --overwrite (overwrite=True) to replace it."
        )


def write_card(card: ModelCard, path: Path, overwrite: bool = False) -> None:
    """
    Write a card, marked as written by this package.

    Args:
        card ([`~huggingface_hub.ModelCard`]): The card.
        path (`Path`): The file, `README.md` in the model's folder.
        overwrite (`bool`, *optional*, defaults to `False`): Whether a card that people wrote or changed gives way.

    Raises:
        ValueError: If such a card is there, and `overwrite` is not set.
    """
    check_may_write(path, overwrite)
    text = f"{card}\n"
    path.write_text(text + _MARK.format(digest=_digest(text)), encoding="utf-8")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
