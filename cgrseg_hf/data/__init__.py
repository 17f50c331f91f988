# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Data: loading, label ids, checks, and the training recipe's augmentation."""

from .catalog import DATASET_NAMES, DatasetDescription, get_description
from .check import ClassCount, DataCheck, Finding, check_data, check_first_masks
from .label_mapping import LabelMapping
from .layouts import SplitNotFoundError
from .loading import Example, SegmentationData, load_data, read_class_names

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
