# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Packages that only some uses need."""

import importlib
import importlib.util
from collections.abc import Iterable
from types import ModuleType


def import_optional(package: str, extra: str, purpose: str) -> ModuleType:
    """
    Import a package of one of the extras, or a module of it.

    Raises:
        ImportError: If it is not installed; in words, with the extra that has it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(
            f'{purpose} need the package {package.partition(".")[0]}: pip install "cgrseg_hf[{extra}]".', name=package
        ) from error


def find_missing_packages(packages: Iterable[str]) -> list[str]:
    """Those of the packages that are not installed."""
    return [package for package in packages if importlib.util.find_spec(package) is None]
