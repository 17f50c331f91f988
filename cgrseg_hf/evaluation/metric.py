# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Mean intersection over union from a confusion matrix, counted one label map at a time."""

from typing import Any

import datasets
import evaluate
import numpy as np
import torch

_INPUTS_DESCRIPTION = """
Args:
    predictions (`list` of `(height, width)` arrays, tensors or nested lists, or one batch of them):
        Predicted classes, 0 to `num_labels - 1`. Tensors are counted on their device.
    references (as `predictions`, of the same shapes):
        True classes, 0 to `num_labels - 1`, or `ignore_index`.
"""


class MeanIoU(evaluate.Metric):
    """
    Mean intersection over union by the definition of evaluate's `mean_iou`, without storing label maps.

    Each label map is counted into a confusion matrix at once, so memory does not grow. Unlike in evaluate's metric,
    classes that do not exist are refused, not dropped from the unions.

    Args:
        num_labels (`int`):
            Number of classes.
        ignore_index (`int`, *optional*, defaults to 255):
            Label of the reference's pixels that do not count.

    Example:

    ```python
    >>> from cgrseg_hf.evaluation import MeanIoU
    >>> metric = MeanIoU(num_labels=2)
    >>> metric.add(prediction=[[0, 1], [1, 1]], reference=[[0, 0], [1, 255]])
    >>> float(metric.compute()["mean_iou"])
    0.5
    ```
    """

    name = "mean_iou"

    def __init__(self, num_labels: int, ignore_index: int = 255):
        if num_labels < 1:
            raise ValueError(f"num_labels={num_labels}: at least one class is needed.")
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self.reset()
        super().__init__(seed=0)  # without a seed, evaluate reads NumPy's global generator

    def _info(self) -> evaluate.MetricInfo:
        label_map = datasets.List(datasets.List(datasets.Value("int64")))
        return evaluate.MetricInfo(
            description="Mean intersection over union of label maps, counted without storing them.",
            citation="",
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features({"predictions": label_map, "references": label_map}),
        )

    def reset(self) -> None:
        """Forget what was counted."""
        self.confusion_matrix = np.zeros((self.num_labels, self.num_labels), dtype=np.int64)
        self._is_empty = True

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """
        Count one label map.

        Raises:
            ValueError: If the shapes differ or a class does not exist.
        """
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """
        Count several label maps, or in case of an error none of them.

        Raises:
            ValueError: If numbers or shapes of the label maps differ, or a class does not exist.
        """
        if predictions is None or references is None:
            raise ValueError("Both predictions and references are needed.")
        if len(predictions) != len(references):
            raise ValueError(
                f"There are {len(predictions)} predictions but {len(references)} references: pass one for each."
            )
        matrices = [
            count_pixels(prediction, reference, self.num_labels, self.ignore_index, index)
            for index, (prediction, reference) in enumerate(zip(predictions, references))
        ]
        if matrices:
            self.confusion_matrix = self.confusion_matrix + sum(matrices)
            self._is_empty = False

    def compute(self, *, predictions: Any = None, references: Any = None) -> dict[str, Any]:
        """
        Compute the metrics of all label maps that were added, and of those passed here, then start anew.

        Returns:
            `dict`: see `metrics_from_confusion_matrix`.

        Raises:
            ValueError: If nothing was added, or as `add_batch`.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if self._is_empty:
            raise ValueError("Nothing was counted yet: call add or add_batch before compute.")
        metrics = metrics_from_confusion_matrix(self.confusion_matrix)
        self.reset()
        return metrics


def metrics_from_confusion_matrix(matrix: np.ndarray) -> dict[str, Any]:
    """
    Compute the metrics of evaluate's `mean_iou`, under its names, all from 0 to 1.

    Args:
        matrix (`numpy.ndarray` of shape `(num_labels, num_labels)`):
            Pixels by true class (rows) and predicted class (columns).

    Returns:
        `dict`: `per_category_iou` `(num_labels,)`, float64, the pixels where truth and prediction are the class over
        those where one of them is, NaN for a class in neither; `per_category_accuracy` `(num_labels,)`, the same over
        the pixels of the truth, NaN for a class that the truth lacks; `mean_iou` and `mean_accuracy`, their means
        without the NaN; `overall_accuracy`, the right pixels over all. Means over nothing are NaN.
    """
    right = np.diagonal(matrix).astype(np.float64)
    truth = matrix.sum(axis=1).astype(np.float64)
    union = truth + matrix.sum(axis=0) - right
    with np.errstate(invalid="ignore"):
        iou, accuracy, overall = right / union, right / truth, right.sum() / truth.sum()
    mean_iou, mean_accuracy = (
        np.float64("nan") if np.isnan(values).all() else np.nanmean(values) for values in (iou, accuracy)
    )
    return {
        "mean_iou": mean_iou,
        "mean_accuracy": mean_accuracy,
        "overall_accuracy": overall,
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }


def count_pixels(
    prediction: Any, reference: Any, num_labels: int, ignore_index: int = 255, index: int = 0
) -> np.ndarray:
    """
    Compute the confusion matrix of one label map.

    Args:
        prediction (array, tensor or nested list of shape `(height, width)`):
            Predicted classes, 0 to `num_labels - 1`.
        reference (as `prediction`, of the same shape):
            True classes, 0 to `num_labels - 1`, or `ignore_index`. They are counted on the prediction's device.
        num_labels (`int`):
            Number of classes.
        ignore_index (`int`, *optional*, defaults to 255):
            Label of the reference's pixels that do not count.
        index (`int`, *optional*, defaults to 0):
            The label map's number, for messages.

    Returns:
        `numpy.ndarray` of shape `(num_labels, num_labels)`, int64: pixels by true class (rows) and predicted class.

    Raises:
        ValueError: If the shapes differ, a class does not exist, or there are fractions.
    """
    predicted, true = _to_integers(prediction, f"Prediction {index}"), _to_integers(reference, f"Reference {index}")
    if predicted.shape != true.shape:
        raise ValueError(
            f"Prediction {index} has shape {tuple(predicted.shape)}, but its reference {tuple(true.shape)}: resize the "
            "prediction to its reference (target_sizes of post_process_semantic_segmentation)."
        )
    true = true.to(predicted.device)
    ignored = true == ignore_index
    true = true.masked_fill(ignored, 0)
    _check_range(predicted, f"Prediction {index}", num_labels, "Is num_labels the model's number of classes?")
    _check_range(true, f"Reference {index}", num_labels, f"Map the ids, or set ignore_index (now {ignore_index}).")
    # Ignored pixels are counted behind the others, and cut off.
    codes = true.mul_(num_labels).add_(predicted).masked_fill_(ignored, num_labels**2)
    counts = torch.bincount(codes.flatten(), minlength=num_labels**2 + 1)[:-1]
    return counts.reshape(num_labels, num_labels).cpu().numpy()


def _to_integers(label_map: Any, name: str) -> torch.Tensor:
    if not isinstance(label_map, torch.Tensor):
        array = np.asarray(label_map)
        # torch shares no memory that is read-only, reversed or of the other byte order.
        label_map = torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iub" else np.float64))
    if label_map.is_floating_point() or label_map.is_complex():
        raise ValueError(
            f"{name} has the type {label_map.dtype}, but class ids, whole numbers, are expected: take the argmax of "
            "the logits."
        )
    return label_map.to(torch.int64)


def _check_range(classes: torch.Tensor, name: str, num_labels: int, remedy: str) -> None:
    if not classes.numel() or (classes.min() >= 0 and classes.max() < num_labels):
        return
    wrong = classes[(classes < 0) | (classes >= num_labels)].unique().tolist()
    raise ValueError(
        f"{name} holds {wrong[:10]}{' and more' if len(wrong) > 10 else ''}, but there are num_labels={num_labels} "
        f"classes (0 to {num_labels - 1}). {remedy}"
    )
