# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .counting import ModelCount as ModelCount
from .counting import count_model as count_model
from .measuring import BenchmarkResult as BenchmarkResult
from .measuring import Measurement as Measurement
from .measuring import Timing as Timing
from .measuring import measure_in_rounds as measure_in_rounds
from .measuring import run_benchmark as run_benchmark
from .report import format_report as format_report
from .report import make_report as make_report
from .report import write_report as write_report
from .settings import BenchmarkSettings as BenchmarkSettings
