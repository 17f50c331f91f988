# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Plots: bars as long as their numbers, matrices with every class."""

import numpy as np
import pytest
import torch

from cgrseg_hf.visualization import draw_prototype_weights
from cgrseg_hf.visualization.plots import draw_confusion_matrix


def test_bars_of_the_prototype_are_as_long_as_its_weights():
    names = {class_id: f"class {class_id}" for class_id in range(5)}
    colors = [(10 + 40 * class_id, 0, 200) for class_id in range(5)]
    image = np.asarray(draw_prototype_weights(np.array([0.1, 0.4, 0.2, 0.25, 0.05]), names, colors, max_classes=4))
    lengths = [(image == color).all(axis=2).sum(axis=1).max() for color in colors]
    assert lengths[4] == 0
    assert lengths[1] / lengths[2] == pytest.approx(2, rel=0.05)
    assert lengths[1] / lengths[0] == pytest.approx(4, rel=0.1)
    rows = [np.nonzero((image == colors[class_id]).all(axis=2))[0].mean() for class_id in (1, 3, 2, 0)]
    assert rows == sorted(rows)
    with pytest.raises(ValueError, match=r"\(2, 5\).*\(5,\)"):
        draw_prototype_weights(torch.ones(2, 5) / 5, names)


@pytest.mark.parametrize("num_labels", [1, 11, 171])
def test_confusion_matrix(num_labels: int):
    matrix = np.eye(num_labels, dtype=np.int64) * 100
    names = {class_id: f"$class^\x1b\udc9b\n number {class_id}" for class_id in range(num_labels)}
    image = np.asarray(draw_confusion_matrix(matrix, names))
    assert (image == (8, 48, 107)).all(axis=2).sum() > 80 * num_labels
    assert all((edge == 255).all() for edge in (image[0], image[-1], image[:, 0], image[:, -1]))  # nothing is cut off
    matrix[0] = 0
    absent = np.asarray(draw_confusion_matrix(matrix, names))
    assert (absent == 220).all(axis=2).sum() > 80 * num_labels > (image == 220).all(axis=2).sum()
