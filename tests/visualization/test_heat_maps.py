# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Heat maps: colours that mean numbers, in the right place, with a colour bar."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.visualization import draw_class_heat_map, draw_entropy_map, draw_heat_map
from cgrseg_hf.visualization.heat_maps import apply_color_map, resize_values

GREY = Image.new("RGB", (160, 120), (128, 128, 128))
LOWEST, MIDDLE, HIGHEST = apply_color_map(np.array([0.0, 0.5, 1.0])).tolist()


def test_values_of_any_resolution_lie_where_they_belong():
    values = np.zeros((3, 4))
    values[2, 0] = 1
    for of_other_size in (values, values.repeat(400, axis=0).repeat(400, axis=1)):
        image = np.asarray(draw_heat_map(GREY, of_other_size, opacity=1.0))
        assert image[119, 0].tolist() == HIGHEST and image[0, 159].tolist() == LOWEST


@pytest.mark.parametrize(("value", "color"), [(0.5, MIDDLE), (9.0, HIGHEST)])
def test_the_scale_can_be_fixed(value, color):
    image = np.asarray(draw_heat_map(GREY, np.full((2, 2), value), minimum=0, maximum=1, opacity=1.0))
    assert (image[:, :160] == color).all()


def test_the_photo_shows_in_grey_and_gaps_show_it_as_it_is():
    photo = Image.new("RGB", (160, 120), (200, 40, 40))
    values = np.ones((12, 16), dtype=np.float16)
    values[:, :8] = np.nan
    image = np.asarray(draw_heat_map(photo, values, minimum=0, maximum=1, opacity=0.0))
    assert image[60, 20].tolist() == [200, 40, 40]
    assert len(set(image[60, 150].tolist())) == 1


def test_gaps_do_not_spread():
    values = np.array([[1.0, np.nan], [1.0, 1.0]], dtype=np.float32)
    resized, is_number = resize_values(values, (200, 200))
    assert 0.6 < is_number.mean() < 0.9
    np.testing.assert_allclose(resized[is_number], 1, rtol=1e-5)


@pytest.mark.parametrize("size", [(100, 75), (3000, 2000)])
def test_the_bar_stands_beside_the_photo_and_nothing_is_cut_off(size):
    image = np.asarray(draw_heat_map(Image.new("RGB", size), np.linspace(-3, 12, 12).reshape(3, 4), "height $m^$"))
    bar = image[:, size[0] :]
    assert (bar[[0, -1]] == 255).all() and (bar[:, -1] == 255).all()
    tops, bottoms = (np.nonzero((abs(bar.astype(int) - color) < 4).all(axis=2))[0] for color in (HIGHEST, LOWEST))
    assert tops.mean() < bar.shape[0] / 2 < bottoms.mean()


def test_threads_may_draw_at_once():
    values = [np.eye(4) * scale for scale in (1, 10, 100)] * 8
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda one: draw_heat_map(GREY, one, "caption").tobytes(), values))
    assert drawn == [draw_heat_map(GREY, one, "caption").tobytes() for one in values]


def test_probability_of_a_class():
    scores = np.zeros((3, 4, 4))
    scores[2, :, 2:] = math.log(8)
    names = {0: "road", 1: "wall", 2: "sky"}
    image = np.asarray(draw_class_heat_map(GREY, scores, "sky", names, opacity=1.0))
    for probability, pixel in ((0.8, image[60, 159]), (1 / 3, image[60, 0])):
        cover = 0.25 + 0.75 * probability  # of the opacity: the photo can be seen where the class is not
        expected = cover * apply_color_map(np.array([probability]))[0] + (1 - cover) * np.asarray(GREY)[60, 0]
        np.testing.assert_allclose(pixel, expected, atol=2)
    np.testing.assert_array_equal(np.asarray(draw_class_heat_map(GREY, scores, 2, names, opacity=1.0)), image)
    with pytest.raises(ValueError, match=r"'tree'.*road, wall, sky"):
        draw_class_heat_map(GREY, scores, "tree", names)
    with pytest.raises(ValueError, match=r"\(2, 4, 4\).*num_labels=3"):
        draw_class_heat_map(GREY, scores[:2], "sky", names)


def test_entropy_is_on_the_scale_of_what_it_can_be():
    image = np.asarray(draw_entropy_map(GREY, np.full((4, 4), math.log(8)), num_labels=8, opacity=1.0))
    assert (image[:, :160] == apply_color_map(np.array([1.0]), "inferno")).all()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: draw_heat_map(GREY, np.zeros((2, 4, 4))), r"\(2, 4, 4\)"),
        (lambda: draw_heat_map(GREY, np.full((4, 4), np.nan)), "finite"),
        (lambda: draw_heat_map(GREY, np.zeros((4, 4)), color_map="jet"), r"'jet'.*viridis, inferno"),
        (lambda: draw_heat_map(GREY, np.zeros((4, 4)), minimum=2, maximum=1), "from 2 up to 1"),
        (lambda: draw_heat_map(GREY, np.zeros((4, 4)), opacity=-1), "opacity=-1"),
        (lambda: draw_entropy_map(GREY, None, num_labels=8), "return_entropy=True"),
        (lambda: draw_class_heat_map(GREY, None, "a", {0: "a"}), "return_scores=True"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
