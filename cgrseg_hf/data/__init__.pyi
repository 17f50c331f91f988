# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .catalog import DATASET_NAMES as DATASET_NAMES
from .catalog import DatasetDescription as DatasetDescription
from .catalog import get_description as get_description
from .check import ClassCount as ClassCount
from .check import DataCheck as DataCheck
from .check import Finding as Finding
from .check import check_data as check_data
from .check import check_first_masks as check_first_masks
from .label_mapping import LabelMapping as LabelMapping
from .layouts import SplitNotFoundError as SplitNotFoundError
from .loading import Example as Example
from .loading import SegmentationData as SegmentationData
from .loading import load_data as load_data
from .loading import read_class_names as read_class_names
