# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Mean intersection over union from a confusion matrix that grows map by map, behind evaluate's interface."""

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch

_NARROW_TYPES = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32)

_DESCRIPTION = "Mean intersection over union of label maps, counted map by map without storing them."
_INPUTS_DESCRIPTION = """
Args:
    predictions (`list` of `(height, width)` arrays, tensors or nested lists, or one batch of them):
        Predicted classes, 0 to `num_labels - 1`.
    references (as `predictions`, of the same shapes):
        True classes, 0 to `num_labels - 1`, or `ignore_index`.

Returns:
    `dict`: `mean_iou`, `mean_accuracy`, `overall_accuracy`, `per_category_iou`, `per_category_accuracy`.
"""


class MeanIoU(evaluate.Metric):
    """
    Mean intersection over union, by the definition of evaluate's `mean_iou`, streaming.

    Each map is counted into a confusion matrix as it comes and then forgotten: memory does not grow, and no cache file
    is written. Unlike evaluate's, classes that do not exist are refused, not dropped from the unions.

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

    def __init__(self, num_labels: int, ignore_index: int = 255):
        if num_labels < 1:
            raise ValueError(f"num_labels={num_labels}: at least one class is needed.")
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self._confusion_matrix = np.zeros((num_labels, num_labels), dtype=np.int64)
        self._num_maps = 0
        self._is_empty = True
        super().__init__(seed=0)  # without a seed, evaluate looks at NumPy's global generator
        self._module_info.module_name = "mean_iou"

    def _info(self) -> evaluate.MetricInfo:
        label_map = datasets.List(datasets.List(datasets.Value("int64")))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS_DESCRIPTION,
            features=datasets.Features({"predictions": label_map, "references": label_map}),
        )

    def _build_data_dir(self) -> str:
        return ""  # evaluate would make a cache folder, which a matrix does not need

    def __len__(self) -> int:
        """Number of maps counted since the last `compute`."""
        return self._num_maps

    @property
    def confusion_matrix(self) -> np.ndarray:
        """Pixels by true class (rows) and predicted class (columns), (num_labels, num_labels), int64; a copy."""
        return self._confusion_matrix.copy()

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """
        Count one map.

        Args:
            prediction (array, tensor or nested list of shape `(height, width)`):
                Predicted classes, 0 to `num_labels - 1`.
            reference (as `prediction`, of the same shape):
                True classes, 0 to `num_labels - 1`, or `ignore_index`.

        Raises:
            ValueError: If the shapes differ or a class does not exist.
        """
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """
        Count several maps; all of them, or with an error none.

        Args:
            predictions (list of maps `(height, width)` of any sizes, or one array or tensor `(batch, height, width)`):
                Predicted classes, 0 to `num_labels - 1`. Tensors are counted on their device.
            references (as `predictions`):
                True classes, 0 to `num_labels - 1`, or `ignore_index`.

        Raises:
            ValueError: If numbers or shapes of the maps differ, or a class does not exist.
        """
        if predictions is None or references is None:
            raise ValueError("Both predictions and references are needed.")
        if len(predictions) != len(references):
            raise ValueError(
                f"There are {len(predictions)} predictions but {len(references)} references: pass one for each."
            )
        matrix = np.zeros_like(self._confusion_matrix)
        for index, (prediction, reference) in enumerate(zip(predictions, references)):
            matrix += count_pixels(prediction, reference, self.num_labels, self.ignore_index, index)
        self._confusion_matrix += matrix
        self._num_maps += len(predictions)
        self._is_empty &= len(predictions) == 0

    def add_confusion_matrix(self, matrix: np.ndarray | torch.Tensor) -> None:
        """
        Add pixels that were counted elsewhere, such as in another process.

        Args:
            matrix (`numpy.ndarray` or `torch.Tensor` of shape `(num_labels, num_labels)`):
                Pixels by true class (rows) and predicted class (columns).

        Raises:
            ValueError: If the shape is another, or an entry is negative or no whole number.
        """
        matrix = matrix.cpu().numpy() if isinstance(matrix, torch.Tensor) else np.asarray(matrix)
        check_confusion_matrix(matrix, self.num_labels)
        self._confusion_matrix += matrix.astype(np.int64)
        self._is_empty = False

    def merge(self, other: "MeanIoU") -> None:
        """
        Add what another metric has counted.

        Raises:
            ValueError: If the other's classes or ignored label differ.
        """
        if (other.num_labels, other.ignore_index) != (self.num_labels, self.ignore_index):
            raise ValueError(
                f"The other metric has num_labels={other.num_labels} and ignore_index={other.ignore_index}, this one "
                f"{self.num_labels} and {self.ignore_index}: make both alike."
            )
        self.add_confusion_matrix(other.confusion_matrix)
        self._num_maps += len(other)

    def reset(self) -> None:
        """Forget what was counted."""
        self._confusion_matrix[:] = 0
        self._num_maps = 0
        self._is_empty = True

    def compute(self, *, predictions: Any = None, references: Any = None) -> dict[str, Any]:
        """
        The metrics of all that was counted, and of what is passed here; then start anew.

        Args:
            predictions (as in `add_batch`, *optional*):
                Further predictions.
            references (as in `add_batch`, *optional*):
                Further references.

        Returns:
            `dict`: see `metrics_from_confusion_matrix`.

        Raises:
            ValueError: If nothing was counted, or as `add_batch`.
        """
        if predictions is not None or references is not None:
            self.add_batch(predictions=predictions, references=references)
        if self._is_empty:
            raise ValueError("Nothing was counted yet: call add or add_batch before compute.")
        metrics = metrics_from_confusion_matrix(self._confusion_matrix)
        self.reset()
        return metrics


def metrics_from_confusion_matrix(matrix: np.ndarray) -> dict[str, Any]:
    """
    The metrics of evaluate's `mean_iou`, under its names, all in 0 to 1.

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
    return {
        "mean_iou": _mean_of_numbers(iou),
        "mean_accuracy": _mean_of_numbers(accuracy),
        "overall_accuracy": overall,
        "per_category_iou": iou,
        "per_category_accuracy": accuracy,
    }


def count_pixels(
    prediction: Any, reference: Any, num_labels: int, ignore_index: int = 255, index: int = 0
) -> np.ndarray:
    """
    The confusion matrix of one map.

    Args:
        prediction (array, tensor or nested list of shape `(height, width)`):
            Predicted classes, 0 to `num_labels - 1`.
        reference (as `prediction`, of the same shape):
            True classes, 0 to `num_labels - 1`, or `ignore_index`. Counting happens on the prediction's device.
        num_labels (`int`):
            Number of classes.
        ignore_index (`int`, *optional*, defaults to 255):
            Label of the reference's pixels that do not count.
        index (`int`, *optional*, defaults to 0):
            The map's number, for messages.

    Returns:
        `numpy.ndarray` of shape `(num_labels, num_labels)`, int64: pixels by true class (rows) and predicted class.

    Raises:
        ValueError: If the shapes differ, a class does not exist, or there are fractions.
    """
    predicted, true = (
        _to_whole_numbers(prediction, "Prediction", index),
        _to_whole_numbers(reference, "Reference", index),
    )
    if predicted.shape != true.shape:
        raise ValueError(
            f"Prediction {index} has shape {tuple(predicted.shape)}, but its reference {tuple(true.shape)}: resize the "
            "prediction to its reference (target_sizes of post_process_semantic_segmentation)."
        )
    if predicted.numel() == 0:
        return np.zeros((num_labels, num_labels), dtype=np.int64)
    true = true.to(predicted.device)
    ignored = true == ignore_index
    true = true.masked_fill(ignored, 0)
    _check_range(predicted, "Prediction", index, num_labels, "Is num_labels the model's number of classes?")
    _check_range(true, "Reference", index, num_labels, f"Map the ids, or set ignore_index (now {ignore_index}).")
    # Ignored pixels are counted behind the others, and cut off.
    codes = true.mul_(num_labels).add_(predicted).masked_fill_(ignored, num_labels**2)
    counts = torch.bincount(codes.flatten(), minlength=num_labels**2 + 1)[:-1]
    return counts.reshape(num_labels, num_labels).cpu().numpy()


def check_confusion_matrix(matrix: np.ndarray, num_labels: int) -> None:
    """Refuse what is no confusion matrix of so many classes."""
    if matrix.shape != (num_labels, num_labels):
        raise ValueError(
            f"The confusion matrix has shape {matrix.shape}, but for num_labels={num_labels} classes it must be "
            f"{(num_labels, num_labels)}."
        )
    if (matrix < 0).any() or (matrix != np.floor(matrix)).any():
        raise ValueError("A confusion matrix holds numbers of pixels: whole and not negative.")


def _to_whole_numbers(label_map: Any, name: str, index: int) -> torch.Tensor:
    """A map as an integer tensor on its device, int32 where that holds all of its type."""
    if not isinstance(label_map, torch.Tensor):
        array = np.asarray(label_map)
        if array.dtype.kind not in "iub":
            raise ValueError(
                f"{name} {index} has the type {array.dtype}, but class ids, whole numbers, are expected: take the "
                "argmax of the logits."
            )
        if array.dtype.byteorder not in "=|" or not array.flags.writeable or any(step < 0 for step in array.strides):
            array = array.astype(array.dtype.newbyteorder("="))  # torch shares neither, or warns
        label_map = torch.from_numpy(array)
    if label_map.is_floating_point() or label_map.is_complex():
        raise ValueError(
            f"{name} {index} has the type {label_map.dtype}, but class ids, whole numbers, are expected: take the "
            "argmax of the logits."
        )
    # In a narrow type a comparison with a label beyond it would wrap around.
    return label_map.to(torch.int32 if label_map.dtype in (*_NARROW_TYPES, torch.bool) else torch.int64)


def _check_range(classes: torch.Tensor, name: str, index: int, num_labels: int, remedy: str) -> None:
    lowest, highest = torch.stack(classes.aminmax()).tolist()
    if lowest >= 0 and highest < num_labels:
        return
    wrong = classes[(classes < 0) | (classes >= num_labels)].unique().tolist()
    raise ValueError(
        f"{name} {index} holds {wrong[:10]}{' and more' if len(wrong) > 10 else ''}, but there are "
        f"num_labels={num_labels} classes (0 to {num_labels - 1}). {remedy}"
    )


def _mean_of_numbers(values: Sequence[float] | np.ndarray) -> float:
    """The mean without NaN; NaN where nothing else is left, without NumPy's warning."""
    values = np.asarray(values)
    return np.nanmean(values) if not np.isnan(values).all() else np.float64("nan")
