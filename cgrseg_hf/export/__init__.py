# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Models as files that other engines run: ONNX, OpenVINO and torch.export. Each name is imported when first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exported_model import ExportedModel
    from .exporting import ExportReport, export_model
    from .parity import ParityError

_MODULE_OF_NAME = {
    "ExportReport": "exporting",
    "ExportedModel": "exported_model",
    "ParityError": "parity",
    "export_model": "exporting",
}

__all__ = ["ExportReport", "ExportedModel", "ParityError", "export_model"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF_NAME[name]}", __name__), name)
