# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores as files and as a table for the terminal."""

import csv
import dataclasses
import json
import math
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..utils.provenance import digest_weights, find_git_commit, find_versions
from ..visualization import draw_side_by_side
from ..visualization.plots import draw_confusion_matrix
from .evaluator import EvaluationResult

_PACKAGES = ("torch", "transformers", "datasets", "evaluate", "accelerate", "numpy", "pillow")
# Spreadsheets read a cell that begins with one of these as a formula; the last four are wide forms of the first ones.
_FORMULA_STARTS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
_MEANS = {"mean_iou": "mean IoU", "mean_accuracy": "mean accuracy", "overall_accuracy": "overall accuracy"}


def write_report(
    result: EvaluationResult,
    folder: str | Path,
    *,
    model: str,
    model_folder: str | Path | None = None,
    extra: dict[str, Any] | None = None,
) -> Path:
    """
    Write the scores of a model into a folder.

    `report.json` has all numbers, with null where a class does not occur, and the settings that are needed to repeat
    them. `per_class.csv` has the classes alone. `confusion_matrix.png` shows which classes were confused. `worst` has
    the worst images beside truth, prediction and errors, the worst first.

    Args:
        result ([`EvaluationResult`]):
            The scores from `evaluate_model`.
        folder (`str` or `Path`):
            Folder of the report. An earlier report in it is replaced.
        model (`str`):
            The model's name.
        model_folder (`str` or `Path`, *optional*):
            The model's folder. The report then has the checksums of its weights, and is refused beside others.
        extra (`dict`, *optional*):
            More entries of `report.json`, such as `seed`.

    Returns:
        `Path`: the file `report.json`.

    Raises:
        OSError: If the folder cannot be written to.
    """
    folder = Path(folder)
    (folder / "worst").mkdir(parents=True, exist_ok=True)
    for panel in (folder / "worst").glob("[0-9]*_*.png"):
        panel.unlink()
    for rank, image in enumerate(result.worst, start=1):
        draw_side_by_side(
            image.image,
            image.prediction,
            result.id2label,
            image.label_map,
            captions=(
                f"{rank}. {image.name}",
                "Ground truth",
                f"Prediction, mean IoU {image.mean_iou:.1%}",
                "Errors in red",
            ),
            ignore_index=result.ignore_index,
            colors=result.palette,
            show_errors=True,
            max_side=480,
        ).save(folder / "worst" / f"{rank:02d}_{_file_name(image.name)}.png")
    draw_confusion_matrix(result.confusion_matrix, result.id2label).save(folder / "confusion_matrix.png")
    _write_csv(result, folder / "per_class.csv")
    report = without_nan(make_report(result, model, model_folder, extra))
    path = folder / "report.json"
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return path


def make_report(
    result: EvaluationResult,
    model: str,
    model_folder: str | Path | None = None,
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make the content of `report.json`; numbers that do not exist are NaN."""
    extra = dict(extra or {})
    return {
        "model": model,
        "weights": {} if model_folder is None else digest_weights(Path(model_folder)),
        "data": result.data,
        "protocol": {**dataclasses.asdict(result.protocol), "description": result.protocol.describe()},
        "num_images": result.num_images,
        "num_pixels": int(result.confusion_matrix.sum()),
        "metrics": {name: float(result.metrics[name]) for name in _MEANS},
        "classes": describe_classes(result),
        "confusion_matrix": result.confusion_matrix.tolist(),
        "worst": [{"name": image.name, "mean_iou": image.mean_iou} for image in result.worst],
        "seconds": result.seconds,
        "device": result.device,
        "precision": result.precision,
        "seed": extra.pop("seed", None),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": find_versions(*_PACKAGES),
        "git_commit": find_git_commit(),
        **({"extra": extra} if extra else {}),
    }


def without_sources(report: dict[str, Any]) -> dict[str, Any]:
    """Make the content of a `report.json` that can be published: without paths and names of images."""
    # Reports of earlier releases have a path in cross_check.
    report = {name: value for name, value in report.items() if name not in ("worst", "cross_check")}
    report["data"] = {name: value for name, value in report.get("data", {}).items() if name != "description"}
    return report


def check_report(
    report: Mapping[str, Any],
    folder: Path,
    id2label: Mapping[int, str],
    source: str | Path,
    weights: Mapping[str, str],
) -> None:
    """
    Refuse a report of another model: one with other classes or, where the report has checksums, with other weights.

    Args:
        report (`Mapping`): The content of a `report.json`.
        folder (`Path`): The model's folder.
        id2label (`Mapping[int, str]`): Names of the model's classes.
        source (`str` or `Path`): Name of the report in messages.
        weights (`Mapping[str, str]`): Checksums of the folder's weights, see `digest_weights`.

    Raises:
        ValueError: If the report is of another model.
    """
    reported = [one["name"] for one in report.get("classes", ())]
    names = [name for _, name in sorted(id2label.items())]
    if reported != names:
        raise ValueError(
            f"{source} is of a model with other classes, {_some(reported)}: this one has {_some(names)}. Give the "
            "report that `cgrseg evaluate` wrote for this model."
        )
    if report.get("weights") and report["weights"] != weights:
        raise ValueError(
            f"{source} is of other weights than those in {folder}: of {report.get('model')}, or of this folder before "
            f"it was changed. Evaluate it with cgrseg evaluate {shlex.quote(str(folder))} --data DATA, and give the "
            "folder of that report with --report."
        )


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def describe_classes(result: EvaluationResult) -> list[dict[str, Any]]:
    """List id, name, IoU, accuracy, true and predicted pixels, and share of the true pixels of each class."""
    matrix = result.confusion_matrix
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    total = max(int(true.sum()), 1)
    return [
        {
            "id": class_id,
            "name": result.id2label[class_id],
            "iou": float(result.metrics["per_category_iou"][class_id]),
            "accuracy": float(result.metrics["per_category_accuracy"][class_id]),
            "pixels": int(true[class_id]),
            "predicted_pixels": int(predicted[class_id]),
            "share": int(true[class_id]) / total,
        }
        for class_id in range(len(matrix))
    ]


def per_class_table(result: EvaluationResult) -> str:
    """Make a table of the classes with IoU, accuracy and share of the pixels in percent, and of the means."""
    classes = describe_classes(result)
    width = min(max(len("class"), *(len(one["name"]) for one in classes)), 32)
    lines = [f"{'id':>4}  {'class':<{width}}  {'IoU':>6}  {'acc.':>6}  {'pixels':>7}"]
    for one in classes:
        name = one["name"] if len(one["name"]) <= width else one["name"][: width - 1] + "…"
        lines.append(
            f"{one['id']:>4}  {name:<{width}}  {_percent(one['iou'])}  {_percent(one['accuracy'])}  "
            f"{one['share'] * 100:>6.2f}%"
        )
    lines.append("")
    lines += [f"{label:<{width + 6}}  {_percent(result.metrics[name])}" for name, label in _MEANS.items()]
    return "\n".join(lines)


def escape_cell(text: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet would read as a formula."""
    is_formula = text.startswith(_FORMULA_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text


def _write_csv(result: EvaluationResult, path: Path) -> None:
    rows = describe_classes(result)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            values = {key: "" if _is_nan(value) else value for key, value in row.items()}
            writer.writerow({**values, "name": escape_cell(row["name"])})


def _percent(value: float) -> str:
    return f"{'–':>6}" if _is_nan(value) else f"{value * 100:>6.2f}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def without_nan(value: Any) -> Any:
    """Replace NaN, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if _is_nan(value) else value


def _file_name(name: str) -> str:
    """An image's name as part of a file name, without its ending."""
    return re.sub(r"[^\w.-]+", "_", Path(name).stem)[:80] or "image"
