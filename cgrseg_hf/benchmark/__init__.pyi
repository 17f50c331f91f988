# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .counting import ModelCount as ModelCount
from .counting import count_model as count_model
from .report import format_report as format_report
from .report import make_report as make_report
from .report import write_report as write_report
from .rounds import Timing as Timing
from .rounds import measure_in_rounds as measure_in_rounds
from .run import BenchmarkResult as BenchmarkResult
from .run import Measurement as Measurement
from .run import run_benchmark as run_benchmark
from .settings import BenchmarkSettings as BenchmarkSettings
