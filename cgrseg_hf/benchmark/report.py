# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Results of a benchmark as tables for the terminal, as JSON and as a picture."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..utils.provenance import find_git_commit, find_processor, find_versions
from .counting import PAPER_FIGURES, ModelCount
from .memory import describe_allocator
from .picture import draw_latency
from .rounds import WARM_UP_ROUNDS
from .run import BenchmarkResult, Measurement
from .settings import STAGES
from .sources import Source

_PACKAGES = ("torch", "transformers", "numpy", "pillow", "torchvision", "onnx", "onnxruntime", "openvino")
_PAPER_CONDITIONS = ((512, 512), 150)


def write_report(result: BenchmarkResult, folder: str | Path) -> list[Path]:
    """
    Write what was found into a folder: `benchmark.json`, and `latency.png` if anything was timed.

    Args:
        result ([`BenchmarkResult`]): What `run_benchmark` returned.
        folder (`str` or `Path`): Made if need be; an earlier report in it is replaced.

    Returns:
        `list[Path]`: the files written; without the picture where matplotlib is not installed.

    Raises:
        OSError: If the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file, picture = folder / "benchmark.json", folder / "latency.png"
    file.write_text(json.dumps(make_report(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    picture.unlink(missing_ok=True)
    if result.measurements and draw_latency(result.measurements, picture):
        return [file, picture]
    return [file]


def make_report(result: BenchmarkResult) -> dict[str, Any]:
    """The content of `benchmark.json`; times are in milliseconds, memory in bytes."""
    return {
        "settings": {**dataclasses.asdict(result.settings), "photos": _text(result.settings.photos)},
        "conditions": describe_conditions(result),
        "included": {stage: STAGES[stage] for stage in result.settings.stages},
        "counts": [
            {
                "model": source.name,
                "size": size,
                **dataclasses.asdict(count),
                "everything": count.everything,
                "paper": _paper_figures(source, size),
            }
            for source, size, count in _counts(result)
        ],
        "measurements": [
            {
                **{name: getattr(one, name) for name in ("stage", "name", "size", "batch_size", "threads")},
                "median_ms": _milliseconds(one.timing.median),
                "p10_ms": _milliseconds(one.timing.spread[0]),
                "p90_ms": _milliseconds(one.timing.spread[1]),
                "ratio_to_first": round(one.ratio, 4),
                "images_per_second": round(one.images_per_second, 3),
                "peak_memory": one.peak_memory,
                "times_ms": [_milliseconds(seconds) for seconds in one.timing.seconds],
            }
            for one in result.measurements
        ],
        "left_out": result.left_out,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": find_versions(*_PACKAGES),
        "git_commit": find_git_commit(),
    }


def describe_conditions(result: BenchmarkResult) -> dict[str, str]:
    """What the times depend on besides the contenders, each in words."""
    settings = result.settings
    conditions = {
        "processor": f"{find_processor()}, {os.cpu_count()} cores, threads: {', '.join(map(str, settings.threads))}",
        "allocator": describe_allocator(result.freed_memory_is_kept),
    }
    if result.measurements:
        conditions["rounds"] = (
            f"{settings.rounds} of each contender, in turns in one process, in another order each round, after "
            f"{WARM_UP_ROUNDS} that do not count; p10–p90 holds four of five; ratio is to the first"
        )
        conditions["memory"] = (
            "what the network's first call at a size takes at its peak beyond what was in use before it; an engine "
            "that keeps memory from another size takes less"
        )
    if torch.device(settings.device).type == "cuda":
        conditions["gpu"] = torch.cuda.get_device_name(settings.device)
    if random := [source.name for source in result.sources if source.configuration is not None]:
        conditions["weights"] = (
            f"random in {', '.join(random)}: the network takes the same time, its label maps are like no other"
        )
    return conditions


def format_report(result: BenchmarkResult) -> str:
    """Conditions, counts and times, for a terminal."""
    parts = ["\n".join(f"{name}: {text}" for name, text in describe_conditions(result).items())]
    if result.counts:
        parts.append(_format_counts(result))
    for stage in result.settings.stages:
        rows = [one for one in result.measurements if one.stage == stage]
        if rows:
            parts.append(f"{stage}: {STAGES[stage]}\n{_format_times(rows)}")
    if result.left_out:
        parts.append("\n".join(result.left_out))
    return "\n\n".join(parts)


def _format_counts(result: BenchmarkResult) -> str:
    rows = [["", "size", "parameters M", "convolutions G", "linear G", "other products G", "everything G", "paper"]]
    for source, size, count in _counts(result):
        giga = (count.convolutions, count.linear_layers, count.other_products, count.everything)
        paper = _paper_figures(source, size)
        rows.append(
            [
                source.name,
                _size(size),
                f"{count.parameters / 1e6:.2f}",
                *(f"{value / 1e9:.2f}" for value in giga),
                "" if paper is None else f"{paper['parameters']} M, {paper['multiply_adds']} G",
            ]
        )
    title = (
        "Multiply-adds of one image; other products are attention's and the like. Normalisations, activations, sums\n"
        "and resizing are not counted. The paper's are for CGRSeg convolutions alone, for SegFormer everything."
    )
    return f"{title}\n{_format_table(rows)}"


def _format_times(rows: Sequence[Measurement]) -> str:
    """A table of one stage; what is the same in every row is left out but for the size."""
    shown = {name: len({getattr(one, name) for one in rows}) > 1 for name in ("batch_size", "threads")}
    has_memory = any(one.peak_memory is not None for one in rows)
    header = ["", "size"]
    header += [name for name, column in (("batch", "batch_size"), ("threads", "threads")) if shown[column]]
    header += ["median ms", "p10–p90", "ratio", "images/s"]
    has_sizes = len({one.size for one in rows}) > 1
    header += ["ms/megapixel"] * has_sizes + ["memory MiB"] * has_memory
    table = [header]
    for one in rows:
        low, high = one.timing.spread
        row = [one.name, _size(one.size)]
        row += [str(getattr(one, name)) for name in shown if shown[name]]
        row += [f"{1000 * one.timing.median:.1f}", f"{1000 * low:.1f}–{1000 * high:.1f}"]
        row += [f"{one.ratio:.2f}", f"{one.images_per_second:.1f}"]
        if has_sizes:
            megapixels = one.batch_size * one.size[0] * one.size[1] / 1e6
            row.append(f"{1000 * one.timing.median / megapixels:.0f}")
        if has_memory:
            row.append("–" if one.peak_memory is None else f"{one.peak_memory / 2**20:.0f}")
        table.append(row)
    return _format_table(table)


def _format_table(rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    )


def _counts(result: BenchmarkResult) -> Iterator[tuple[Source, tuple[int, int], ModelCount]]:
    for source in result.sources:
        for size in result.settings.sizes:
            if (source.name, size) in result.counts:
                yield source, size, result.counts[source.name, size]


def _paper_figures(source: Source, size: tuple[int, int]) -> dict[str, float] | None:
    """Millions of parameters and billions of multiply-adds that the paper reports for this very model."""
    figures = PAPER_FIGURES.get(source.configuration or "")
    if figures is None or (size, source.model.config.num_labels) != _PAPER_CONDITIONS:
        return None
    return dict(zip(("parameters", "multiply_adds"), figures))


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
