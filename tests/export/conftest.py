# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Engines of the shared exports."""

from collections.abc import Callable

import pytest

from cgrseg_hf.engines.exported_engine import ExportedEngine, open_export


@pytest.fixture(scope="session")
def opened(exported) -> Callable[..., ExportedEngine]:
    """Open one of the shared exports, each once."""
    engines = {}

    def open_shared(format: str, precision: str = "float32", **settings) -> ExportedEngine:
        folder = exported(format, precision, **settings).folder
        if folder not in engines:
            engines[folder] = open_export(folder, num_threads=1, trust_remote_code=True, needs_logits=False)
        return engines[folder]

    return open_shared
