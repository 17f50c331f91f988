# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Evaluation: a streaming metric, test protocols, reports."""

from .evaluator import EvaluationResult, WorstImage, evaluate_model
from .metric import MeanIoU, metrics_from_confusion_matrix
from .prediction import REFERENCE_SCALES, EvaluationProtocol, predict_label_map
from .report import per_class_table, without_sources, write_report
from .trainer import make_compute_metrics, preprocess_logits_for_metrics

__all__ = [
    "REFERENCE_SCALES",
    "EvaluationProtocol",
    "EvaluationResult",
    "MeanIoU",
    "WorstImage",
    "evaluate_model",
    "make_compute_metrics",
    "metrics_from_confusion_matrix",
    "per_class_table",
    "predict_label_map",
    "preprocess_logits_for_metrics",
    "without_sources",
    "write_report",
]
