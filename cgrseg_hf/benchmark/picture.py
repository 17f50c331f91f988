# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Times as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .run import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR_HEIGHT = 0.32  # inches


def draw_latency(measurements: Sequence[Measurement], file: str | Path) -> bool:
    """
    Draw medians, and what four of five rounds lie between: bars, or curves over pixels where there are more sizes.

    Args:
        measurements (`Sequence[Measurement]`): What was measured.
        file (`str` or `Path`): Where the picture goes; its ending names the format.

    Returns:
        `bool`: whether there is a picture; not without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    stages = list(dict.fromkeys(one.stage for one in measurements))
    draw = _draw_curves if len({one.size for one in measurements}) > 1 else _draw_bars
    rows = [[one for one in measurements if one.stage == stage] for stage in stages]
    heights = [4.5 if draw is _draw_curves else _BAR_HEIGHT * len(of_stage) + 0.9 for of_stage in rows]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    panels = figure.subplots(len(stages), 1, squeeze=False, height_ratios=heights)[:, 0]
    for stage, of_stage, panel in zip(stages, rows, panels):
        panel.set_title(f"{stage}: median, and what four of five rounds lie between", loc="left", fontsize="medium")
        draw(panel, of_stage)
    figure.savefig(file, dpi=150)
    return True


def _draw_bars(panel: "Axes", measurements: Sequence[Measurement]) -> None:
    names = _names(measurements)
    medians = [1000 * one.timing.median for one in measurements]
    panel.barh(names, medians, xerr=_spread(measurements), color="tab:blue", ecolor="black", capsize=2)
    panel.bar_label(panel.containers[-1], [f" {median:.1f}" for median in medians], padding=6)
    panel.invert_yaxis()
    panel.set_xlabel("milliseconds")
    panel.margins(x=0.12)


def _draw_curves(panel: "Axes", measurements: Sequence[Measurement]) -> None:
    from matplotlib.ticker import LogLocator

    by_name: dict[str, list[Measurement]] = {}
    for name, one in zip(_names(measurements), measurements):
        by_name.setdefault(name, []).append(one)
    for name, of_name in by_name.items():
        of_name = sorted(of_name, key=_megapixels)
        panel.errorbar(
            [_megapixels(one) for one in of_name],
            [1000 * one.timing.median for one in of_name],
            yerr=_spread(of_name),
            marker="o",
            capsize=2,
            label=name,
        )
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter("")
    ticks = {_megapixels(one): f"{one.size[0]}×{one.size[1]}" for one in measurements}
    panel.set_xticks(list(ticks), list(ticks.values()), rotation=30, minor=False)
    panel.set_xlabel("input in pixels")
    panel.set_ylabel("milliseconds")
    panel.grid(alpha=0.3)
    panel.legend()


def _names(measurements: Sequence[Measurement]) -> list[str]:
    """What each is called, with its batch and threads where these differ."""
    names = [one.name for one in measurements]
    for attribute, words in (("batch_size", "batch {}"), ("threads", "{} threads")):
        values = [getattr(one, attribute) for one in measurements]
        if len(set(values)) > 1:
            names = [f"{name}, {words.format(value)}" for name, value in zip(names, values)]
    return names


def _spread(measurements: Sequence[Measurement]) -> list[list[float]]:
    """How far below and above the median the spread reaches, in milliseconds."""
    below = [1000 * (one.timing.median - one.timing.spread[0]) for one in measurements]
    above = [1000 * (one.timing.spread[1] - one.timing.median) for one in measurements]
    return [below, above]


def _megapixels(measurement: Measurement) -> float:
    return measurement.size[0] * measurement.size[1] / 1e6
