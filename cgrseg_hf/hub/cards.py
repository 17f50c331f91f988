# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The card of a folder that goes to the Hub: what it must say, and what the push adds to it."""

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import yaml
from huggingface_hub import ModelCard

CARD_FILE = "README.md"
_OTHER_LICENSE = ("license_name", "license_link")

# What a push adds stands between these, so that the next one can put its own in place.
_START, _END = "<!-- written by cgrseg push -->", "<!-- end of what cgrseg push wrote -->"
_ADDED = re.compile(rf"{re.escape(_START)}.*?{re.escape(_END)}\n*", re.DOTALL)
_FIRST_SECTION = re.compile(r"^## ", re.MULTILINE)


def read_card(folder: Path) -> ModelCard:
    """
    The card in a model's folder.

    Raises:
        ValueError: If there is none, or its metadata cannot be read or lack something that the Hub shows or needs.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} has no card: write {CARD_FILE} with `cgrseg card`, so that people learn what the model is for, "
            "how good it is and under which licence it stands."
        )
    try:
        card = ModelCard(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"The metadata at the top of {path} cannot be read: {error}") from error
    if problems := find_problems(card):
        raise ValueError(f"The card {path} is not ready:\n" + "\n".join(f"- {problem}" for problem in problems))
    return card


def is_written_by_push(text: str) -> bool:
    """Whether a card has the section that a push adds."""
    return _START in text


def find_problems(card: ModelCard) -> list[str]:
    """What the card's metadata lack, each with its remedy; the Hub itself checks more."""
    data = card.data.to_dict()
    problems = []
    if not data.get("license"):
        problems.append(
            f"license is missing: name the weights' licence, or 'other' with {' and '.join(_OTHER_LICENSE)}."
        )
    elif data["license"] == "other":
        problems += [f"license is 'other', but {name} is missing." for name in _OTHER_LICENSE if not data.get(name)]
    for name, expected in (("library_name", "transformers"), ("pipeline_tag", "image-segmentation")):
        if data.get(name) != expected:
            problems.append(f"{name} is {data.get(name)!r}: it has to be {expected}, by which the Hub shows the model.")
    if not card.text.strip():
        problems.append("there is nothing below the metadata: say what the model is and what it is for.")
    return problems


def extend_card(
    card: ModelCard,
    repo_id: str,
    revision: str | None = None,
    exports: Sequence[str] = (),
    pictures: Sequence[str] = (),
    credit: str = "",
    has_code: bool = True,
) -> str:
    """
    The card's content with a section on the repo, before the first section; what an earlier push added goes.

    Args:
        card ([`~huggingface_hub.ModelCard`]): The folder's card.
        repo_id (`str`): Where it goes.
        revision (`str`, *optional*): The branch, if it is not `main`.
        exports (`Sequence[str]`): For each exported folder a line: its name and what it is.
        pictures (`Sequence[str]`): Names of the pictures to show, relative to the card.
        credit (`str`): Where the pictures are from, and their licence.
        has_code (`bool`): Whether the model needs the code in the repo; those of transformers do not.
    """
    options = f', revision="{revision}"' if revision else ""
    options += ", trust_remote_code=True" if has_code else ""
    lead = "The model's code lies beside the weights; `handler.py`" if has_code else "`handler.py`"
    lines = [
        _START,
        "## From the Hub",
        "",
        "```python",
        "from transformers import pipeline",
        "",
        f'segment = pipeline("image-segmentation", model="{repo_id}"{options})',
        "```",
        "",
        f"{lead} serves it on Inference Endpoints.",
    ]
    if exports:
        lines += ["", "Exports for other engines, each in a folder of its own:", ""]
        lines += [f"- {export}" for export in exports]
    if pictures:
        lines += ["", *(f"![Classes that the model found]({quote(picture)})" for picture in pictures), "", credit]
    added = "\n".join([*lines, _END]) + "\n\n"
    text = _ADDED.sub("", card.text)
    section = _FIRST_SECTION.search(text)
    position = section.start() if section else len(text)
    before = text[:position] if section else text.rstrip("\n") + "\n\n"
    card.text = before + added + text[position:]
    return str(card)
