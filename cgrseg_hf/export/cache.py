# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Exports that engines need, made once and kept."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from filelock import FileLock
from huggingface_hub import constants
from transformers import PreTrainedModel
from transformers.utils import logging

from ..engines.export_settings import EXPORT_FILE, is_export
from ..utils.provenance import find_versions
from .exporting import export_model

logger = logging.get_logger(__name__)


def exports_folder() -> Path:
    """Where kept exports lie, each in a folder of its own."""
    return Path(constants.HF_HOME) / "cgrseg_hf" / "exports"


def measure_exports() -> tuple[int, int]:
    """How many exports are kept, and the bytes that they take."""
    files = [file for file in exports_folder().rglob("*") if file.is_file()]
    return sum(file.name == EXPORT_FILE for file in files), sum(file.stat().st_size for file in files)


def clear_exports() -> tuple[int, int]:
    """
    Delete the exports that are kept. Those that are in use go on being usable where open files outlast their names.

    Returns:
        `tuple[int, int]`: how many there were, and the bytes that they took.
    """
    before = measure_exports()
    for folder in exports_folder().glob("*/"):
        with FileLock(_lock_file(folder)):  # another process may be making it
            shutil.rmtree(folder)
    return before


def find_or_make_export(model: PreTrainedModel, format: str, precision: str) -> Path:
    """
    The folder with a model in another format, exported if it is not there yet.

    It lies under the Hugging Face cache (`HF_HOME`), and is found again for the same weights, configuration and
    versions. Of several processes that need it, one makes it.

    Args:
        model (`PreTrainedModel`): The model.
        format (`str`): `"onnx"` or `"openvino"`.
        precision (`str`): `"float32"`, `"float16"` or `"bfloat16"`.

    Returns:
        `Path`: the folder.
    """
    exports = exports_folder()
    folder = exports / f"{format}-{precision}-{_fingerprint(model)}"
    if is_export(folder):
        return folder
    exports.mkdir(parents=True, exist_ok=True)
    with FileLock(_lock_file(folder)):
        if not is_export(folder):
            logger.warning("Exporting the model to %s, once: it is kept in %s", format, folder)
            export_model(model, folder, format, precision)
    return folder


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _fingerprint(model: PreTrainedModel) -> str:
    """A name for all that an export depends on."""
    digest = hashlib.sha256()
    packages = ("torch", "onnx", "onnxruntime", "onnxscript", "openvino")
    described = {"config": _without_origin(model.config.to_dict()), "versions": find_versions(*packages)}
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy())
    return digest.hexdigest()[:20]


def _without_origin(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without where the model came from and the type that it was loaded in."""
    return {
        name: _without_origin(value) if isinstance(value, dict) else value
        for name, value in config.items()
        if name not in ("_name_or_path", "dtype")
    }
