# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .evaluator import EvaluationResult as EvaluationResult
from .evaluator import WorstImage as WorstImage
from .evaluator import evaluate_model as evaluate_model
from .metric import MeanIoU as MeanIoU
from .metric import metrics_from_confusion_matrix as metrics_from_confusion_matrix
from .prediction import REFERENCE_SCALES as REFERENCE_SCALES
from .prediction import EvaluationProtocol as EvaluationProtocol
from .prediction import predict_label_map as predict_label_map
from .report import per_class_table as per_class_table
from .report import without_sources as without_sources
from .report import write_report as write_report
from .trainer import make_compute_metrics as make_compute_metrics
from .trainer import preprocess_logits_for_metrics as preprocess_logits_for_metrics
