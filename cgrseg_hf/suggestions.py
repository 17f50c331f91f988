# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Names that were perhaps meant, for messages about names that do not exist."""

import difflib
from collections.abc import Iterable


def find_similar(name: str, known: Iterable[str]) -> str | None:
    """The known name most like another; None if none is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """
    A sentence that asks for the known name most like this one, with a space before it; empty if none is like it.

    Args:
        name (`str`): What came.
        known (`Iterable[str]`): What would do.
    """
    similar = find_similar(name, known)
    return f" Did you mean {similar}?" if similar else ""
