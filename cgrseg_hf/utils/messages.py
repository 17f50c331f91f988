# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Words for the terminal: names in them come from strangers' files and models, and terminals obey some characters."""

import difflib
import logging
import re
import warnings
from collections.abc import Iterable
from typing import Any

# Control characters, by which text moves the cursor, clears the screen or retitles the window; those that turn the
# direction of writing, so that a name looks like another; and halves of characters, of names that are no text.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
# Colours of the libraries' own messages.
_COLOR = re.compile(r"(\x1b\[[0-9;]*m)")


def printable(text: object) -> str:
    """
    A text whose control characters are shown and not obeyed, as in `\\u001b[2J`; line ends and tabs stay.

    JSON stays JSON of the same content.
    """
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def one_line(name: object) -> str:
    """
    What a name or message is in one line, where it may hold line breaks and control characters.

    `image_processing_cgrseg.py` has the same for itself, since it travels to the Hub alone.
    """
    text = str(name)
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def reason_of(error: BaseException) -> str:
    """What an error says; of the wrappers in which a configuration's check puts it, what lies in them."""
    from huggingface_hub.errors import StrictDataclassError

    while isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def echo(text: object, *, err: bool = False, nl: bool = True, color: str | None = None) -> None:
    """
    Print a text as `printable` shows it.

    Args:
        text (`object`): What to print.
        err (`bool`, *optional*, defaults to `False`): Whether to print it to the standard error.
        nl (`bool`, *optional*, defaults to `True`): Whether to end the line.
        color (`str`, *optional*): Its colour, on a terminal.
    """
    import typer  # here, since what trains without the command uses this module too

    typer.secho(printable(text), err=err, nl=nl, fg=color)


def guard_messages() -> None:
    """Let logged messages and warnings of all libraries in this process appear as `printable` shows them."""
    logging.setLogRecordFactory(_PrintableRecord)
    show = warnings.formatwarning
    warnings.formatwarning = lambda *arguments, **options: printable(show(*arguments, **options))


class _PrintableRecord(logging.LogRecord):
    """A logged message that keeps its colours and shows what else a terminal would obey."""

    def getMessage(self) -> str:  # noqa: N802 (logging's name)
        """The message with its arguments."""
        parts: list[Any] = _COLOR.split(super().getMessage())
        return "".join(part if index % 2 else printable(part) for index, part in enumerate(parts))


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
