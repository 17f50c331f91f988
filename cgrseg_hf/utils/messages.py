# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Text for people: names in it come from strangers' files and models, and terminals obey some characters."""

import difflib
import re
from collections.abc import Iterable

# Control characters, by which text moves the cursor, clears the screen or retitles the window; those that turn the
# direction of writing, so that a name looks like another; and halves of characters, of names that are no text.
_UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: object) -> str:
    """
    Show control characters instead of having the terminal obey them, as in `\\u001b[2J`; line ends and tabs stay.

    JSON stays JSON of the same content.
    """
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def one_line(name: object) -> str:
    """
    Bring a name or message with line breaks and control characters into one line.

    `image_reading_cgrseg.py` has the same for itself, since it travels to the Hub alone.
    """
    text = str(name)
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def reason_of(error: BaseException) -> str:
    """The message of an error, or of the error that a configuration's check has wrapped."""
    from huggingface_hub.errors import StrictDataclassError

    while isinstance(error, StrictDataclassError) and error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def echo(text: object, *, err: bool = False, nl: bool = True, color: str | None = None) -> None:
    """
    Print a text through [`printable`].

    Args:
        text (`object`): The text.
        err (`bool`, *optional*, defaults to `False`): Print to the standard error.
        nl (`bool`, *optional*, defaults to `True`): End the line.
        color (`str`, *optional*): Its colour, on a terminal.
    """
    import typer  # here, since what trains without the command uses this module too

    typer.secho(printable(text), err=err, nl=nl, fg=color)


def find_similar(name: str, known: Iterable[str]) -> str | None:
    """Find the known name most like another; None if none is like it."""
    return next(iter(difflib.get_close_matches(name, known, n=1)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """
    Ask for the known name most like this one, in a sentence with a space before it; empty if none is like it.
    """
    similar = find_similar(name, known)
    return f" Did you mean {similar}?" if similar else ""
