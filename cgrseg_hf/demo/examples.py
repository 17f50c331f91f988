# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The photos that come with the page."""

import json
from dataclasses import dataclass
from pathlib import Path

PHOTOS = Path(__file__).parent / "photos"


@dataclass(frozen=True)
class Example:
    """
    A photo to try.

    Args:
        path (`Path`): The file.
        title (`str`): What it shows.
        source (`str`): Address of the original, which stands for its author's name.
        license (`str`), license_url (`str`): Its licence, and where that can be read.
    """

    path: Path
    title: str
    source: str
    license: str
    license_url: str


def load_examples() -> list[Example]:
    """The photos, in the order in which the page shows them."""
    entries = json.loads((PHOTOS / "sources.json").read_text(encoding="utf-8"))
    return [
        Example(PHOTOS / one["file"], one["title"], one["source"], one["license"], one["license_url"])
        for one in entries
    ]
