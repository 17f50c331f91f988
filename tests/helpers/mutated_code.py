# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A pytest plugin for `nox -s mutants`: functions that mutmut has changed lack the docstrings that evaluate extends."""

from collections.abc import Callable

import evaluate.module

copy_function = evaluate.module.copyfunc


def copy_with_docstring(function: Callable) -> Callable:
    """Copy a function as evaluate does, with an empty docstring where it has none."""
    copied = copy_function(function)
    copied.__doc__ = copied.__doc__ or ""
    return copied


evaluate.module.copyfunc = copy_with_docstring
