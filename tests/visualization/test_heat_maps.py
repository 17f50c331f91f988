# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Heat maps: colours that mean numbers, in the right place, with a bar that says which."""

import math

import matplotlib
import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.visualization import draw_class_heat_map, draw_entropy_map, draw_heat_map
from cgrseg_hf.visualization.heat_maps import _round_numbers, apply_color_map, format_numbers, resize_values

GREY = Image.new("RGB", (160, 120), (128, 128, 128))


@pytest.mark.parametrize("name", ["viridis", "inferno"])
def test_colour_maps_are_those_of_matplotlib(name):
    position = np.linspace(0, 1, 256)
    expected = matplotlib.colormaps[name](position)[:, :3] * 255
    assert np.abs(apply_color_map(position, name) - expected).max() <= 6
    assert apply_color_map(np.array([-3.0, 7.0]), name).tolist() == apply_color_map(np.array([0.0, 1.0]), name).tolist()


def test_values_of_any_resolution_lie_where_they_belong():
    values = np.zeros((3, 4))
    values[2, 0] = 1
    picture = np.asarray(draw_heat_map(GREY, values, opacity=1.0))
    assert picture[119, 0].tolist() == apply_color_map(np.array(1.0)).tolist()
    assert picture[0, 159].tolist() == apply_color_map(np.array(0.0)).tolist()
    large = np.asarray(draw_heat_map(GREY, values.repeat(400, axis=0).repeat(400, axis=1), opacity=1.0))
    assert large.shape == picture.shape
    assert large[119, 0].tolist() == picture[119, 0].tolist()


def test_the_scale_can_be_fixed():
    picture = np.asarray(draw_heat_map(GREY, np.full((2, 2), 0.5), minimum=0, maximum=1, opacity=1.0))
    assert (picture[:, :160] == apply_color_map(np.array(0.5))).all()
    beyond = np.asarray(draw_heat_map(GREY, np.full((2, 2), 9.0), minimum=0, maximum=1, opacity=1.0))
    assert (beyond[:, :160] == apply_color_map(np.array(1.0))).all()


def test_the_photo_shows_in_grey_and_gaps_show_it_as_it_is():
    photo = Image.new("RGB", (160, 120), (200, 40, 40))
    values = np.ones((12, 16), dtype=np.float16)
    values[:, :8] = np.nan
    picture = np.asarray(draw_heat_map(photo, values, minimum=0, maximum=1, opacity=0.0))
    assert picture[60, 20].tolist() == [200, 40, 40]
    assert len(set(picture[60, 150].tolist())) == 1


def test_gaps_do_not_spread():
    values = np.array([[1.0, np.nan], [1.0, 1.0]], dtype=np.float32)
    resized, is_number = resize_values(values, (200, 200))
    assert 0.6 < is_number.mean() < 0.9
    np.testing.assert_allclose(resized[is_number], 1, rtol=1e-5)


@pytest.mark.parametrize("size", [(100, 75), (3000, 2000)])
def test_the_bar_goes_from_the_smallest_to_the_largest(size):
    photo = Image.new("RGB", size)
    picture = np.asarray(draw_heat_map(photo, np.linspace(-3, 12, 12).reshape(3, 4), "height, m"))
    assert (picture[: size[1], : size[0]] != 255).any() and picture.shape[1] > size[0]
    bar = picture[:, size[0] :]
    assert (bar[[0, -1]] == 255).all() and (bar[:, -1] == 255).all()  # nothing is cut off
    column = bar[:, round(1.5 * np.argmax((bar == apply_color_map(np.array(0.0))).all(axis=2).any(axis=0)))]
    colored = column[(column != 255).any(axis=1)]
    assert colored[-1].tolist() == apply_color_map(np.array(0.0)).tolist()
    assert (colored == apply_color_map(np.array(1.0))).all(axis=1).any()


@pytest.mark.parametrize(
    ("lower", "upper", "numbers"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.0, math.log(150), ["0", "1", "2", "3", "4", "5"]),
        (-3.0, 12.0, ["-2.5", "0.0", "2.5", "5.0", "7.5", "10.0"]),
        (0.4831, 0.4952, ["0.484", "0.486", "0.488", "0.490", "0.492", "0.494"]),
        (0.0, 4e-7, ["0", "1e-07", "2e-07", "3e-07", "4e-07"]),
        (0.0, 3e8, ["0", "1e+08", "2e+08", "3e+08"]),
        (7.0, 7.0, ["7"]),
    ],
)
def test_numbers_on_the_bar_are_round(lower, upper, numbers):
    assert format_numbers(_round_numbers(lower, upper, most=6)) == numbers


def test_probability_of_a_class():
    scores = np.zeros((3, 4, 4))
    scores[2, :, 2:] = math.log(8)
    names = {0: "road", 1: "wall", 2: "sky"}
    picture = np.asarray(draw_class_heat_map(GREY, scores, "sky", names, opacity=1.0))
    for probability, pixel in ((0.8, picture[60, 159]), (1 / 3, picture[60, 0])):
        cover = 0.25 + 0.75 * probability  # of the opacity
        expected = cover * apply_color_map(np.array(probability)) + (1 - cover) * np.asarray(GREY)[60, 0]
        np.testing.assert_allclose(pixel, expected, atol=2)
    np.testing.assert_array_equal(np.asarray(draw_class_heat_map(GREY, scores, 2, names, opacity=1.0)), picture)
    with pytest.raises(ValueError, match=r"'tree'.*road, wall, sky"):
        draw_class_heat_map(GREY, scores, "tree", names)
    with pytest.raises(ValueError, match=r"\(2, 4, 4\).*num_labels=3"):
        draw_class_heat_map(GREY, scores[:2], "sky", names)


def test_entropy_is_on_the_scale_of_what_it_can_be():
    picture = np.asarray(draw_entropy_map(GREY, np.full((4, 4), math.log(8)), num_labels=8, opacity=1.0))
    assert (picture[:, :160] == apply_color_map(np.array(1.0), "inferno")).all()


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 4, 4\).*one class"):
        draw_heat_map(GREY, np.zeros((2, 4, 4)))
    with pytest.raises(ValueError, match="without a finite number"):
        draw_heat_map(GREY, np.full((4, 4), np.nan))
    with pytest.raises(ValueError, match=r"'jet'.*viridis, inferno"):
        draw_heat_map(GREY, np.zeros((4, 4)), color_map="jet")
    with pytest.raises(ValueError, match="from 2 up to 1"):
        draw_heat_map(GREY, np.zeros((4, 4)), minimum=2, maximum=1)
    with pytest.raises(ValueError, match="return_entropy=True"):
        draw_entropy_map(GREY, None, num_labels=8)
    with pytest.raises(ValueError, match="return_scores=True"):
        draw_class_heat_map(GREY, None, "a", {0: "a"})


def test_the_photo_can_be_seen_where_the_class_is_not():
    photo = Image.fromarray(np.tile(np.array([0, 200], dtype=np.uint8), (90, 80)))  # stripes
    scores = np.zeros((2, 1, 2), dtype=np.float32)
    scores[1] = [[-30, 30]]
    picture = np.asarray(draw_class_heat_map(photo, scores, "b", {0: "a", 1: "b"}).convert("L")).astype(int)
    without, within = picture[40, 10:20], picture[40, 140:150]
    assert np.ptp(without) > 140 > 80 > np.ptp(within)
