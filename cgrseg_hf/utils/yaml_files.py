# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""YAML files that people write."""

from pathlib import Path
from typing import Any


def read_yaml(path: Path) -> dict[str, Any]:
    """
    Read the names and values in a YAML file.

    Raises:
        ValueError: If it is not YAML, or holds something else.
    """
    import yaml  # here, since commands that read no YAML start sooner without

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}: it has to be a list of 'name: value' lines.")
    return values
