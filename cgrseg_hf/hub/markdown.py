# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Names and measured values as plain text in Markdown: reports and models come from strangers too."""

import re
from typing import Any

from ..utils.messages import printable

_MARKUP = re.compile(r"([\\`*|~\[\]])")


def escape_values(value: Any) -> Any:
    """The same numbers and structure, with all text as one line that Markdown and HTML take for nothing but words."""
    if isinstance(value, dict):
        return {escape_values(name): escape_values(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [escape_values(content) for content in value]
    if not isinstance(value, str):
        return value
    line = printable(" ".join(value.split()))
    return _MARKUP.sub(r"\\\1", line).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
