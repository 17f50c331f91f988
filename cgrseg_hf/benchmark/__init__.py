# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Counting and timing of models, beside others if asked for. Each name is imported when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .counting import ModelCount, count_model
    from .report import format_report, make_report, write_report
    from .rounds import Timing, measure_in_rounds
    from .run import BenchmarkResult, Measurement, run_benchmark
    from .settings import BenchmarkSettings

_MODULE_OF_NAME = {
    "BenchmarkResult": "run",
    "BenchmarkSettings": "settings",
    "Measurement": "run",
    "ModelCount": "counting",
    "Timing": "rounds",
    "count_model": "counting",
    "format_report": "report",
    "make_report": "report",
    "measure_in_rounds": "rounds",
    "run_benchmark": "run",
    "write_report": "report",
}

__all__ = [
    "BenchmarkResult",
    "BenchmarkSettings",
    "Measurement",
    "ModelCount",
    "Timing",
    "count_model",
    "format_report",
    "make_report",
    "measure_in_rounds",
    "run_benchmark",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF_NAME[name]}", __name__), name)
