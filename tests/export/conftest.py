# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Runtimes of the shared exports."""

from collections.abc import Callable

import pytest

from cgrseg_hf.engines.runtimes import Runtime, load_runtime


@pytest.fixture(scope="session")
def runtime(exported) -> Callable[..., Runtime]:
    """Load one of the shared exports, each way once."""
    runtimes = {}

    def load(format: str, precision: str = "float32", **settings) -> Runtime:
        way = (format, precision, *sorted(settings.items()))
        if way not in runtimes:
            runtimes[way] = load_runtime(exported(format, precision, **settings).folder, num_threads=1)
        return runtimes[way]

    return load
