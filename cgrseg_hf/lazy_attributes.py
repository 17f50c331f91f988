# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Packages whose names are imported when they are first used, since PyTorch and transformers take seconds."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def import_when_used(package: str, module_of_name: Mapping[str, str]) -> Callable[[str], Any]:
    """
    Make a package's `__getattr__`.

    Args:
        package (`str`): The package's `__name__`.
        module_of_name (`Mapping[str, str]`): For each name that the package gives, its module in the package.

    Returns:
        `Callable`: what takes a name and gives its value, or raises `AttributeError` where there is none.
    """

    def get(name: str) -> Any:
        if name not in module_of_name:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f".{module_of_name[name]}", package), name)

    return get
