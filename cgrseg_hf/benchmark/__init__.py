# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Counting and timing of models, beside others if asked for."""

from .counting import ModelCount, count_model
from .report import format_report, make_report, write_report
from .rounds import Timing, measure_in_rounds
from .run import BenchmarkResult, BenchmarkSettings, Measurement, run_benchmark

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
