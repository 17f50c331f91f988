# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Data: loading, label ids, checks, and the recipe's augmentation. Each name is imported when it is first used."""

from typing import TYPE_CHECKING

from ..lazy_attributes import import_when_used

if TYPE_CHECKING:
    from .catalog import DATASET_NAMES, DatasetDescription, get_description
    from .check import ClassCount, DataCheck, Finding, check_data, check_first_masks
    from .label_mapping import LabelMapping
    from .layouts import SplitNotFoundError
    from .loading import Example, SegmentationData, load_data, read_class_names

_MODULE_OF_NAME = {
    "DATASET_NAMES": "catalog",
    "ClassCount": "check",
    "DataCheck": "check",
    "DatasetDescription": "catalog",
    "Example": "loading",
    "Finding": "check",
    "LabelMapping": "label_mapping",
    "SegmentationData": "loading",
    "SplitNotFoundError": "layouts",
    "check_data": "check",
    "check_first_masks": "check",
    "get_description": "catalog",
    "load_data": "loading",
    "read_class_names": "loading",
}

__all__ = [
    "DATASET_NAMES",
    "ClassCount",
    "DataCheck",
    "DatasetDescription",
    "Example",
    "Finding",
    "LabelMapping",
    "SegmentationData",
    "SplitNotFoundError",
    "check_data",
    "check_first_masks",
    "get_description",
    "load_data",
    "read_class_names",
]


__getattr__ = import_when_used(__name__, _MODULE_OF_NAME)
