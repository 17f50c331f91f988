# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Counting and timing of models, beside others if asked for. Each name is imported when it is first used."""

from typing import TYPE_CHECKING

from ..lazy_attributes import import_when_used

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


__getattr__ = import_when_used(__name__, _MODULE_OF_NAME)
