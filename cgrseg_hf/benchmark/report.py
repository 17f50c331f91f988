# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Write the results of a benchmark: tables for the terminal, JSON and a plot."""

import dataclasses
import json
import os
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ..utils.provenance import find_git_commit, find_processor, find_versions
from .contenders import Source
from .counting import PAPER_FIGURES, ModelCount
from .measuring import WARM_UP_ROUNDS, BenchmarkResult, Measurement
from .settings import STAGES

_PACKAGES = ("torch", "transformers", "numpy", "pillow", "torchvision", "onnx", "onnxruntime", "openvino")
_PAPER_CONDITIONS = ((512, 512), 150)
_ALLOCATOR_VARIABLES = ("LD_PRELOAD", "GLIBC_TUNABLES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")


def write_report(result: BenchmarkResult, folder: str | Path) -> list[Path]:
    """
    Write `benchmark.json` into a folder, and `latency.png` if anything was timed.

    Args:
        result ([`BenchmarkResult`]): What `run_benchmark` returned.
        folder (`str` or `Path`): Made if it does not exist; an earlier report in it is replaced.

    Returns:
        `list[Path]`: the files written.

    Raises:
        OSError: If the folder cannot be written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file, plot = folder / "benchmark.json", folder / "latency.png"
    file.write_text(json.dumps(make_report(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not result.measurements:
        plot.unlink(missing_ok=True)
        return [file]
    _draw_latency(result.measurements, plot)
    return [file, plot]


def make_report(result: BenchmarkResult) -> dict[str, Any]:
    """Make the content of `benchmark.json`; times are in milliseconds, memory in bytes."""
    photos = result.settings.photos
    return {
        "settings": {**dataclasses.asdict(result.settings), "photos": None if photos is None else str(photos)},
        "conditions": _describe_conditions(result),
        "included": {stage: STAGES[stage] for stage in result.settings.stages},
        "counts": [
            {
                "model": source.name,
                "size": size,
                **dataclasses.asdict(count),
                "everything": count.everything,
                "paper": _find_paper_figures(source, size),
            }
            for source, size, count in _counts(result)
        ],
        "measurements": [
            {
                **{name: getattr(row, name) for name in ("stage", "name", "size", "batch_size", "threads")},
                "median_ms": round(1000 * row.timing.median, 3),
                "p10_ms": round(1000 * row.timing.spread[0], 3),
                "p90_ms": round(1000 * row.timing.spread[1], 3),
                "ratio_to_first": round(row.ratio, 4),
                "images_per_second": round(row.images_per_second, 3),
                "peak_memory": row.peak_memory,
                "times_ms": [round(1000 * seconds, 3) for seconds in row.timing.seconds],
            }
            for row in result.measurements
        ],
        "left_out": result.left_out,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": find_versions(*_PACKAGES),
        "git_commit": find_git_commit(),
    }


def format_report(result: BenchmarkResult) -> str:
    """Format conditions, counts and times for a terminal."""
    parts = ["\n".join(f"{name}: {text}" for name, text in _describe_conditions(result).items())]
    if result.counts:
        parts.append(_format_counts(result))
    for stage in result.settings.stages:
        rows = [row for row in result.measurements if row.stage == stage]
        if rows:
            parts.append(f"{stage}: {STAGES[stage]}\n{_format_times(rows)}")
    if result.left_out:
        parts.append("\n".join(result.left_out))
    return "\n\n".join(parts)


def _describe_conditions(result: BenchmarkResult) -> dict[str, str]:
    """Describe in words what the times depend on besides the contenders."""
    settings = result.settings
    threads = ", ".join(map(str, settings.threads))
    conditions = {
        "processor": f"{find_processor()}, {os.cpu_count()} cores, threads: {threads}",
        "allocator": _describe_allocator(result.freed_memory_is_kept),
    }
    if result.measurements:
        conditions["rounds"] = (
            f"{settings.rounds} of each contender, interleaved in one process, in another order each round, after "
            f"{WARM_UP_ROUNDS} that do not count; p10–p90 holds four of five; ratio is to the first"
        )
        conditions["memory"] = (
            "what the network's first calls at a size need at their peak beyond what was in use before; an engine "
            "that keeps memory from another size needs less"
        )
    if torch.device(settings.device).type == "cuda":
        conditions["gpu"] = torch.cuda.get_device_name(settings.device)
    if random := [source.name for source in result.sources if source.configuration is not None]:
        conditions["weights"] = (
            f"random in {', '.join(random)}: the network takes the same time, but label maps are not like real ones"
        )
    return conditions


def _describe_allocator(freed_memory_is_kept: bool) -> str:
    """Describe which C library allocates memory, and its settings."""
    variables = [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name in _ALLOCATOR_VARIABLES or name.startswith("MALLOC_")
    ]
    library = " ".join(platform.libc_ver()).strip() or platform.system()
    kept = "freed memory is kept, as cgrseg predict does" if freed_memory_is_kept else "freed memory goes back"
    return f"{library}, {', '.join(variables) or 'default settings'}, {kept}"


def _counts(result: BenchmarkResult) -> Iterator[tuple[Source, tuple[int, int], ModelCount]]:
    sources = {source.name: source for source in result.sources}
    for (name, size), count in result.counts.items():
        yield sources[name], size, count


def _find_paper_figures(source: Source, size: tuple[int, int]) -> dict[str, float] | None:
    """Find the millions of parameters and billions of multiply-adds that the paper reports for this very model."""
    figures = PAPER_FIGURES.get(source.configuration or "")
    if figures is None or (size, source.model.config.num_labels) != _PAPER_CONDITIONS:
        return None
    return dict(zip(("parameters", "multiply_adds"), figures))


def _format_counts(result: BenchmarkResult) -> str:
    rows = [["", "size", "parameters M", "convolutions G", "linear G", "other products G", "everything G", "paper"]]
    for source, size, count in _counts(result):
        giga = (count.convolutions, count.linear_layers, count.other_products, count.everything)
        paper = _find_paper_figures(source, size)
        rows.append(
            [
                source.name,
                _format_size(size),
                f"{count.parameters / 1e6:.2f}",
                *(f"{value / 1e9:.2f}" for value in giga),
                "" if paper is None else f"{paper['parameters']} M, {paper['multiply_adds']} G",
            ]
        )
    title = (
        "Multiply-adds of one image; other products are attention's and the like. Normalisations, activations, sums\n"
        "and resizing are not counted. The paper counts convolutions alone for CGRSeg, everything for SegFormer."
    )
    return f"{title}\n{_format_table(rows)}"


def _format_times(rows: Sequence[Measurement]) -> str:
    table = [
        ["", "size", "batch", "threads", "median ms", "p10–p90", "ratio", "images/s", "ms/megapixel", "memory MiB"]
    ]
    for row in rows:
        low, high = row.timing.spread
        table.append(
            [
                row.name,
                _format_size(row.size),
                str(row.batch_size),
                str(row.threads),
                f"{1000 * row.timing.median:.1f}",
                f"{1000 * low:.1f}–{1000 * high:.1f}",
                f"{row.ratio:.2f}",
                f"{row.images_per_second:.1f}",
                f"{1000 / row.images_per_second / _megapixels(row):.0f}",
                "–" if row.peak_memory is None else f"{row.peak_memory / 2**20:.0f}",
            ]
        )
    return _format_table(table)


def _format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]).rstrip()
        for row in rows
    )


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"


def _megapixels(row: Measurement) -> float:
    return row.size[0] * row.size[1] / 1e6


def _draw_latency(measurements: Sequence[Measurement], file: Path) -> None:
    """Draw a panel for each stage: medians with their spread, a row for each contender, a colour for each size."""
    by_stage: dict[str, list[Measurement]] = {}
    for row in measurements:
        by_stage.setdefault(row.stage, []).append(row)
    heights = [0.4 * len({_label(row) for row in rows}) + 1.2 for rows in by_stage.values()]  # inches
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    panels = figure.subplots(len(by_stage), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (stage, rows) in zip(panels, by_stage.items()):
        for size in dict.fromkeys(row.size for row in rows):
            of_size = [row for row in rows if row.size == size]
            medians = [1000 * row.timing.median for row in of_size]
            below = [1000 * (row.timing.median - row.timing.spread[0]) for row in of_size]
            above = [1000 * (row.timing.spread[1] - row.timing.median) for row in of_size]
            labels = list(map(_label, of_size))
            panel.errorbar(medians, labels, xerr=[below, above], fmt="o", capsize=3, label=_format_size(size))
            for median, label in zip(medians, labels):
                panel.annotate(
                    f"{median:.1f}", (median, label), (0, 6), textcoords="offset points", ha="center", fontsize="small"
                )
        panel.set_title(f"{stage}: median, 10th to 90th percentile", loc="left", fontsize="medium")
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.set_xlabel("milliseconds")
        panel.margins(x=0.1, y=0.3)
        panel.invert_yaxis()
        panel.grid(axis="x", alpha=0.3)
        panel.legend(title="input", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(file, dpi=150)


def _label(row: Measurement) -> str:
    return f"{row.name}, batch {row.batch_size}, {row.threads} threads"
