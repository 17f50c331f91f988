# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The photo beside its label map and beside the truth."""

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.visualization import class_color, draw_side_by_side

NAMES = {0: "road", 1: "wall", 2: "sky"}
PHOTO = (90, 110, 130)


@pytest.fixture
def photo() -> Image.Image:
    return Image.new("RGB", (200, 150), PHOTO)


def find_images(sheet: np.ndarray, color: tuple[int, int, int]) -> list[tuple[int, int]]:
    """Where runs of exactly this colour begin and end in the middle row of the images."""
    row = (sheet[sheet.shape[0] // 2] == color).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist()))


@pytest.mark.parametrize("class_ids", [[2], [1, 2]])
def test_photo_truth_and_prediction_stand_in_this_order(photo, class_ids):
    *truth, prediction = (np.full((150, 200), class_id) for class_id in class_ids)
    sheet = np.asarray(draw_side_by_side(photo, prediction, NAMES, *truth, opacity=1.0))
    positions = [find_images(sheet, color)[0] for color in (PHOTO, *map(class_color, class_ids))]
    assert {right - left for left, right in positions} == {200}
    assert positions == sorted(positions)
    # Each class is in the legend, though neither label map has both.
    legend = sheet[:, positions[-1][1] :]
    for class_id in class_ids:
        assert (legend == class_color(class_id)).all(axis=2).sum() > 50


def test_captions_stand_above_the_images(photo):
    label_map = np.full((150, 200), 2)
    one = np.asarray(draw_side_by_side(photo, label_map, NAMES, captions=("A", "B")))
    other = np.asarray(draw_side_by_side(photo, label_map, NAMES, captions=("A", "Other")))
    rows, columns = np.nonzero((one != other).any(axis=2))
    top = np.nonzero((one == PHOTO).all(axis=2).any(axis=1))[0][0]
    assert len(rows) and rows.max() < top and columns.min() > 200
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        draw_side_by_side(photo, label_map, NAMES, captions=("A",))


def test_ignored_pixels_stay_as_they_are(photo):
    truth = np.full((150, 200), 255)
    sheet = np.asarray(draw_side_by_side(photo, np.zeros((150, 200), dtype=int), NAMES, truth, opacity=1.0))
    assert [right - left for left, right in find_images(sheet, PHOTO)] == [200, 200]


def test_errors_are_red():
    truth = np.zeros((100, 120), dtype=np.uint8)
    prediction = truth.copy()
    prediction[:, 60:] = 1
    photo = Image.new("RGB", (120, 100), "white")
    sheet = np.asarray(draw_side_by_side(photo, prediction, NAMES, truth, show_errors=True, max_side=60)).astype(int)
    sheet = sheet[len(sheet) // 2 :, :160]
    reddish = (sheet[..., 0] > 200) & (sheet[..., 1] < 130) & (sheet[..., 2] < 130)
    assert reddish.sum() == 50 * 30
    with pytest.raises(ValueError, match="ground_truth"):
        draw_side_by_side(photo, prediction, NAMES, show_errors=True)


@pytest.mark.parametrize("size", [(1, 1), (3, 2000)])
def test_any_size(size):
    label_map = np.zeros(size, dtype=np.uint8)
    sheet = draw_side_by_side(Image.new("RGB", size[::-1]), label_map, NAMES, label_map, show_errors=True, max_side=480)
    assert max(sheet.size) <= 2 * 480 + 400


def test_wrong_sizes_are_refused(photo):
    with pytest.raises(ValueError, match=r"\(150, 200\).*\(200, 150\)"):
        draw_side_by_side(photo, np.zeros((150, 200), dtype=int), NAMES, np.zeros((200, 150), dtype=int))
