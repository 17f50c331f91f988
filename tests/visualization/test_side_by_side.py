# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The photo beside its label map and beside the truth."""

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.visualization import class_color, draw_side_by_side

NAMES = {0: "road", 1: "wall", 2: "sky"}


@pytest.fixture
def photo() -> Image.Image:
    return Image.new("RGB", (200, 150), (90, 110, 130))


def find_pictures(sheet: np.ndarray, color: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Where runs of exactly this colour begin and end in the middle row of the pictures."""
    row = (sheet[sheet.shape[0] // 2] == color).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


def test_photo_beside_prediction(photo):
    sheet = np.asarray(draw_side_by_side(photo, np.full((150, 200), 2), NAMES, opacity=1.0))
    ((left, right),) = find_pictures(sheet, (90, 110, 130))
    assert right - left == 200
    colored = find_pictures(sheet, class_color(2))
    assert colored[0][0] > right and colored[0][1] - colored[0][0] == 200


def test_photo_truth_and_prediction_in_this_order(photo):
    truth, prediction = np.full((150, 200), 1), np.full((150, 200), 2)
    sheet = np.asarray(draw_side_by_side(photo, prediction, NAMES, truth, opacity=1.0))
    positions = [find_pictures(sheet, color)[0] for color in ((90, 110, 130), class_color(1), class_color(2))]
    assert [right - left for left, right in positions] == [200, 200, 200]
    assert positions == sorted(positions)
    # Each class is in the legend, though neither label map has both.
    legend = sheet[:, positions[-1][1] :]
    for class_id in (1, 2):
        assert (legend == class_color(class_id)).all(axis=2).sum() > 50


def test_captions_stand_above_the_pictures(photo):
    label_map = np.full((150, 200), 2)
    one = np.asarray(draw_side_by_side(photo, label_map, NAMES, captions=("A", "B")))
    other = np.asarray(draw_side_by_side(photo, label_map, NAMES, captions=("A", "Other")))
    assert one.shape == other.shape
    rows, columns = np.nonzero((one != other).any(axis=2))
    top = np.nonzero((one == (90, 110, 130)).all(axis=2).any(axis=1))[0][0]
    assert len(rows) and rows.max() < top and columns.min() > 200
    with pytest.raises(ValueError, match="1 captions for 2 pictures"):
        draw_side_by_side(photo, label_map, NAMES, captions=("A",))


def test_ignored_pixels_stay_as_they_are(photo):
    truth = np.full((150, 200), 255)
    sheet = np.asarray(draw_side_by_side(photo, np.zeros((150, 200), dtype=int), NAMES, truth, opacity=1.0))
    assert [right - left for left, right in find_pictures(sheet, (90, 110, 130))] == [200, 200]


def test_wrong_sizes_are_refused(photo):
    with pytest.raises(ValueError, match=r"\(150, 200\).*\(200, 150\)"):
        draw_side_by_side(photo, np.zeros((150, 200), dtype=int), NAMES, np.zeros((200, 150), dtype=int))
