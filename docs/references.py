# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Docstrings in transformers' manner as Markdown: sections as lists, and [`Name`] as a link to that name's entry."""

import re
from pathlib import Path

import griffe

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):$")
_ENTRY = re.compile(r"^(\*{0,2}\w+)(?=[ :,])")
_LINK = re.compile(r"\[`(~?)([\w.]+)`\](?![\[(])")
_LISTED = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites each docstring before it is rendered."""

    def __init__(self) -> None:
        pages = Path(__file__).parent.glob("reference/*.md")
        listed = [path for page in pages for path in _LISTED.findall(page.read_text(encoding="utf-8"))]
        self._paths = {path.rpartition(".")[2]: path for path in listed}

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called with every object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = _LINK.sub(self._link, _format_sections(obj.docstring.value))

    def _link(self, match: re.Match[str]) -> str:
        """A link where the reference has the name, and code otherwise."""
        is_short, name = match.groups()
        owner, _, member = name.partition(".")
        shown = member if is_short and member else name
        if owner not in self._paths:
            return f"`{shown}`"
        return f"[`{shown}`][{'.'.join(filter(None, (self._paths[owner], member)))}]"


def _format_sections(docstring: str) -> str:
    lines: list[str] = []
    section = None
    for line in docstring.splitlines():
        header = _SECTION.match(line)
        if header:
            section = header[1]
            lines += ["", f"**{section}**", ""]
        elif section and line.startswith(" " * 4):
            lines.append(_format_entry(line[4:], section))
        else:
            section = section if not line else None
            lines.append(line)
    return "\n".join(lines)


def _format_entry(line: str, section: str) -> str:
    """A line of a section: the first of an entry, one that goes on with it, or text."""
    if section in ("Returns", "Yields", "Example") or line.startswith(" "):
        return line
    mark = "`" if section == "Raises" else "**"
    return f"- {_ENTRY.sub(lambda match: mark + match[1].lstrip('*') + mark, line)}"
