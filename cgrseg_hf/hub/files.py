# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Names of a model's files, and what all that puts files into a folder for the Hub does with them."""

import json
from pathlib import Path
from typing import Any

from ..engines.export_settings import EXPORT_FILE, MODEL_FILES

CONFIG, IMAGE_PROCESSOR, REPORT = "config.json", "preprocessor_config.json", "report.json"
REPORT_FILES = ("per_class.csv", "confusion_matrix.png")
PICTURES = "pictures"
# Weights that do not lie in the file that an engine loads: of OpenVINO always, of ONNX where they are large.
_DATA_FILES = {"onnx": ("model.onnx.data",), "openvino": ("model.bin",)}
# What an export writes, code apart.
EXPORT_FILES = {
    name: (EXPORT_FILE, CONFIG, IMAGE_PROCESSOR, file, *_DATA_FILES.get(name, ())) for name, file in MODEL_FILES.items()
}


def check_inside(file: Path, folder: Path) -> None:
    """Refuse a link out of a folder: who made the folder, perhaps a stranger, would choose which file is published."""
    allowed, real = folder.resolve(), file.resolve()
    if allowed.parent.name == "snapshots":  # of the Hub's cache, whose files are links to those in blobs
        allowed = allowed.parents[1]
    if not real.is_relative_to(allowed):
        raise ValueError(
            f"{file} is a link to {real}, outside of the folder, and would publish that: put the file itself there, or "
            "take the link away."
        )


def read_json(path: Path) -> dict[str, Any]:
    """
    The content of a JSON file of names and values.

    Raises:
        ValueError: If it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: names and values in braces are expected.")
    return content


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, as people read it."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
