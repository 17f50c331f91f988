# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Models as files that other engines run: ONNX, OpenVINO and torch.export. Each name is imported when first used."""

from typing import TYPE_CHECKING

from ..lazy_attributes import import_when_used

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


__getattr__ = import_when_used(__name__, _MODULE_OF_NAME)
