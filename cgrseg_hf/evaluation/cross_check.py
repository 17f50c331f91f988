# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Our metrics against those of evaluate's own `mean_iou`, on the same maps."""

from typing import Any

import evaluate
import numpy as np

from .metric import metrics_from_confusion_matrix

# evaluate's metric stores its maps as tables of numbers: only so many at once.
_MAPS_AT_ONCE = 8
_TOLERANCE = 1e-9


class CrossCheck:
    """
    Compare with a metric of evaluate, a few maps at a time so that memory stays bounded.

    Areas add up over maps: where the numbers agree on every group of maps, they agree on all.

    Args:
        name (`str`): What `evaluate.load` takes: "mean_iou" or the folder of a copy.
        num_labels (`int`): Number of classes.
        ignore_index (`int`): Label of the reference's pixels that do not count.
    """

    def __init__(self, name: str, num_labels: int, ignore_index: int):
        self.name = name
        self.num_labels = num_labels
        self.ignore_index = ignore_index
        self.metric = evaluate.load(name, keep_in_memory=True)
        self.maps: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.num_images = 0
        self.largest_difference = 0.0
        self.mean_ious: list[float] = []

    def add(self, prediction: np.ndarray, reference: np.ndarray, matrix: np.ndarray) -> None:
        """
        Take one map.

        Args:
            prediction, reference (`numpy.ndarray` of shape `(height, width)`): The classes.
            matrix (`numpy.ndarray` of shape `(num_labels, num_labels)`): What we counted.

        Raises:
            ValueError: If the other metric says something else.
        """
        self.maps.append((prediction, reference, matrix))
        if len(self.maps) == _MAPS_AT_ONCE:
            self._compare()

    def finish(self) -> dict[str, Any]:
        """
        Compare what is left.

        Returns:
            `dict`: `metric`, its name; `num_images`; `maps_at_once`, how many maps each comparison took;
            `mean_ious`, the other's mean IoU of each such group; `largest_difference` of any number.
        """
        if self.maps:
            self._compare()
        return {
            "metric": self.name,
            "num_images": self.num_images,
            "maps_at_once": _MAPS_AT_ONCE,
            "mean_ious": self.mean_ious,
            "largest_difference": self.largest_difference,
        }

    def _compare(self) -> None:
        predictions, references, matrices = zip(*self.maps)
        theirs = self.metric.compute(
            predictions=list(predictions),
            references=list(references),
            num_labels=self.num_labels,
            ignore_index=self.ignore_index,
        )
        for name, values in metrics_from_confusion_matrix(sum(matrices)).items():
            ours, others = np.atleast_1d(values), np.atleast_1d(np.asarray(theirs[name], dtype=np.float64))
            if not np.allclose(ours, others, rtol=0, atol=_TOLERANCE, equal_nan=True):
                raise ValueError(
                    f"{self.name} has {name}={theirs[name]} where ours is {values}, on images {self.num_images} to "
                    f"{self.num_images + len(self.maps) - 1}: one of the two is wrong."
                )
            differences = np.abs(ours - others)
            self.largest_difference = max(self.largest_difference, float(np.nan_to_num(differences).max()))
        self.mean_ious.append(float(theirs["mean_iou"]))
        self.num_images += len(self.maps)
        self.maps = []
