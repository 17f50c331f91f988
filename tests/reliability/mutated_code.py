# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A plugin of pytest for code that mutmut has changed, whose functions lack the docstrings that evaluate adds to."""

from collections.abc import Callable

import evaluate.module

copy_function = evaluate.module.copyfunc


def copy_with_docstring(function: Callable) -> Callable:
    """What evaluate makes of a metric's functions, with an empty docstring where there is none."""
    copied = copy_function(function)
    copied.__doc__ = copied.__doc__ or ""
    return copied


evaluate.module.copyfunc = copy_with_docstring
