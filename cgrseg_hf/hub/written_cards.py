# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Cards as files, which people change by hand: what they wrote is not written over."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard

from ..utils.provenance import digest_weights

# At the card's end, with a digest of what comes before: it tells a card that is as it was written.
_MARK = "\n<!-- written by cgrseg card, {digest} -->\n"
# Before it, of which weights the card's scores are.
_WEIGHTS = "\n<!-- of weights {digest} -->\n"
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


def check_weights(path: Path, folder: Path) -> None:
    """
    See that the scores of a card that [`write_card`] wrote are of the weights in a folder.

    Raises:
        ValueError: If they are of others.
    """
    found = re.search(_WEIGHTS.format(digest=r"([0-9a-f]+)"), path.read_text(encoding="utf-8", errors="replace"))
    if found is not None and found[1] != _digest_all(digest_weights(folder)):
        raise ValueError(
            f"The scores of the card {path} are of other weights than those in {folder}: evaluate these, and write the "
            "card anew with `cgrseg card`."
        )


def write_card(card: ModelCard, path: Path, overwrite: bool = False, weights: Mapping[str, str] | None = None) -> None:
    """
    Write a card, marked as written by this package.

    Args:
        card ([`~huggingface_hub.ModelCard`]): The card.
        path (`Path`): The file, `README.md` in the model's folder.
        overwrite (`bool`, *optional*, defaults to `False`): Whether a card that people wrote or changed gives way.
        weights (`Mapping[str, str]`, *optional*): The checksums of the weights that the scores are of, as a report
            tells them.

    Raises:
        ValueError: If such a card is there, and `overwrite` is not set.
    """
    check_may_write(path, overwrite)
    text = f"{card}\n"
    if weights:
        text += _WEIGHTS.format(digest=_digest_all(weights))
    path.write_text(text + _MARK.format(digest=_digest(text)), encoding="utf-8")


def _digest_all(weights: Mapping[str, str]) -> str:
    return _digest(json.dumps(weights, sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
