# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A visitor's photo without a browser: limits, what is said of bad files, and looking without running the network."""

import gc
import shutil
import struct
import threading
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.demo import html
from cgrseg_hf.demo.errors import DemoError
from cgrseg_hf.demo.examples import load_examples
from cgrseg_hf.demo.models import load_model
from cgrseg_hf.demo.session import ClassArea, PixelAnswer

ORIENTATION = 0x0112


def header_of_png(width: int, height: int) -> bytes:
    """The beginning of a PNG of any size: whoever decodes it finds no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_the_network_runs_once_for_all_views(model, make_desk, save_photo, tmp_path):
    segmented = make_desk().segment(save_photo(), model)
    faint, strong = segmented.draw_overlay(0.1), segmented.draw_overlay(0.9)
    assert faint.size == strong.size == (121, 87)
    photo = np.asarray(Image.open(save_photo()), dtype=int)
    assert np.abs(np.asarray(faint) - photo).mean() < np.abs(np.asarray(strong) - photo).mean() / 2
    marked = np.asarray(segmented.draw_overlay(0.1, (60, 40)))
    changed = np.argwhere((marked != np.asarray(faint)).any(axis=-1))
    np.testing.assert_allclose(changed.mean(axis=0), (40, 60), atol=1)  # a ring around the pixel
    segmented.look_up(3, 4)
    segmented.draw_heat_map(2)
    segmented.save_label_map(tmp_path)
    assert model.segmenter.engine.num_calls == 1


def test_areas(model, make_desk, save_photo):
    segmented = make_desk().segment(save_photo(), model)
    label_map = model.segmenter(save_photo()).label_map
    areas = segmented.areas
    assert len(areas) > 1
    assert [one.share for one in areas] == sorted((one.share for one in areas), reverse=True)
    for one in areas:
        assert one.share == pytest.approx((label_map == one.class_id).mean())
        assert one.name == model.segmenter.id2label[one.class_id]


def test_pixels(model, make_desk, save_photo):
    segmented = make_desk().segment(save_photo(), model)
    expected = model.segmenter(save_photo(), return_scores=True)
    probabilities = torch.from_numpy(expected.scores).double().softmax(dim=0).numpy()
    for x, y in ((0, 0), (120, 86), (77, 12)):
        answer = segmented.look_up(x, y)
        first, second = np.argsort(-probabilities[:, y, x])[:2]
        assert (answer.x, answer.y, answer.class_id) == (x, y, first)
        assert answer.name == expected.id2label[first]
        assert answer.probability == pytest.approx(probabilities[first, y, x], abs=1e-4)
        assert answer.runner_up[0] == expected.id2label[second]
        assert answer.runner_up[1] == pytest.approx(probabilities[second, y, x], abs=1e-4)
    for x, y in ((121, 0), (0, 87), (-1, 0), (None, 0), (0, None), (float("nan"), 0)):
        with pytest.raises(DemoError, match="x goes from 0 to 120, y from 0 to 86"):
            segmented.look_up(x, y)


def test_heat_map_shows_the_probability(model, make_desk, save_photo):
    segmented = make_desk().segment(save_photo(), model)
    class_id = segmented.areas[0].class_id
    picture = np.asarray(segmented.draw_heat_map(class_id).convert("L"), dtype=float)[:87, :121]
    sure = model.segmenter(save_photo()).label_map == class_id
    assert picture.shape == (87, 121)
    assert picture[sure].mean() > picture[~sure].mean() + 20  # lighter where it is more probable
    with pytest.raises(DemoError, match="no such class"):
        segmented.draw_heat_map(99)


def test_large_photos_are_shown_smaller(model, make_desk, save_photo, tmp_path):
    segmented = make_desk().segment(save_photo(width=2000, height=300), model)
    assert segmented.view_size == (192, 1280)
    assert segmented.draw_overlay(0.5).size == (1280, 192)
    assert segmented.draw_heat_map(0).width >= 1280
    assert segmented.to_photo_pixel(0, 0) == (0, 0)
    assert segmented.to_photo_pixel(1279, 191) == (1999, 299)
    assert segmented.look_up(*segmented.to_photo_pixel(640, 96)).x == 1000
    with Image.open(segmented.save_label_map(tmp_path)) as saved:
        assert saved.size == (2000, 300)


def test_label_map_to_download(model, make_desk, save_photo, tmp_path):
    segmented = make_desk().segment(save_photo("my street.png"), model)
    folder = tmp_path / "files"
    folder.mkdir()
    path = segmented.save_label_map(folder)
    assert path.name == "my street_classes.png"
    assert path != segmented.save_label_map(folder)  # nobody's file replaces another's
    with Image.open(path) as saved:
        assert saved.mode == "P"
        np.testing.assert_array_equal(np.asarray(saved), segmented.segmentation.label_map)
    del segmented
    gc.collect()
    assert not list(folder.iterdir())  # nothing is left of a photo that is forgotten


def test_photos_are_turned_as_seen(model, make_desk, save_photo):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    segmented = make_desk().segment(save_photo("turned.jpg", exif=exif), model)
    assert segmented.size == (121, 87)
    assert segmented.draw_overlay(0.5).size == (87, 121)


def test_photos_that_are_refused(model, make_desk, save_photo, tmp_path):
    desk = make_desk(max_pixels=20_000)
    whole = save_photo("whole.jpg").read_bytes()
    files = {
        "words.jpg": (b"no picture", "words.jpg cannot be read as an image: it is not a JPEG, PNG"),
        "empty.png": (b"", "empty.png cannot be read"),
        "half.jpg": (whole[: len(whole) // 2], "half.jpg cannot be read as an image"),
        "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "is not a JPEG, PNG"),
        "wide.png": (header_of_png(201, 100), "wide.png is too large: it has 201 × 100 = 20,100 pixels"),
        "bomb.png": (header_of_png(60_000, 60_000), "bomb.png is too large: this page takes up to 20,000 pixels"),
    }
    for name, (content, message) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DemoError) as refused:
            desk.segment(tmp_path / name, model)
        assert message in str(refused.value)
        assert str(tmp_path) not in str(refused.value)
    with pytest.raises(DemoError, match="not here any more"):
        desk.segment(tmp_path / "gone.png", model)
    assert model.segmenter.engine.num_calls == 0
    assert desk.segment(save_photo(width=200, height=100), model).size == (100, 200)


@pytest.mark.filterwarnings("error")
def test_the_pages_own_limit_counts(decided_folder, make_desk, save_photo, monkeypatch):
    """Pillow's guard says neither yes nor no where the page says something else, and warns of nothing."""
    photo = save_photo()  # of 10,527 pixels
    for guard in (5_000, 6_000, 11_000):  # an error of Pillow's, a warning, nothing
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", guard)
        large = load_model(str(decided_folder), "torch", max_pixels=20_000)
        assert make_desk(max_pixels=20_000).segment(photo, large).size == (87, 121)
        small = load_model(str(decided_folder), "torch", max_pixels=2_000)
        with pytest.raises(DemoError, match=r"street\.png is too large: .*this page takes up to 2,000 pixels"):
            make_desk(max_pixels=2_000).segment(photo, small)
        assert guard == Image.MAX_IMAGE_PIXELS


def test_narrow_photos_are_not_enlarged_without_bound(decided_folder, make_desk, save_photo, tmp_path):
    desk, narrow = make_desk(max_pixels=200_000), save_photo("narrow.png", width=1500, height=20)
    assert desk.segment(narrow, load_model(str(decided_folder), "torch")).size == (20, 1500)  # has a longest edge too
    folder = shutil.copytree(decided_folder, tmp_path / "model")
    CGRSegImageProcessor(size={"shortest_edge": 96}).save_pretrained(folder)
    model = load_model(str(folder), "torch")
    with pytest.raises(DemoError, match=r"narrow\.png is too narrow: .* shorter side to 96 pixels"):
        desk.segment(narrow, model)
    assert desk.segment(save_photo(width=500, height=50), model).size == (50, 500)


def test_the_time_limit(model, make_desk, save_photo):
    model.segmenter.engine.gate = threading.Event()
    desk = make_desk(seconds=0.2)
    try:
        with pytest.raises(DemoError, match=r"longer than the 0\.2 seconds"):
            desk.segment(save_photo(), model)
    finally:
        model.segmenter.engine.gate.set()
    assert make_desk().segment(save_photo(), model).size == (87, 121)


def test_one_class_has_no_runner_up(tiny_config, make_desk, save_photo, tmp_path):
    CGRSegForSemanticSegmentation(tiny_config(1)).save_pretrained(tmp_path / "one")
    CGRSegImageProcessor(size={"shortest_edge": 64, "longest_edge": 256}).save_pretrained(tmp_path / "one")
    answer = make_desk().segment(save_photo(), load_model(str(tmp_path / "one"), "torch")).look_up(1, 1)
    assert answer.runner_up is None
    assert "Next" not in html.pixel_answer(answer, (0, 0, 0))


def test_names_are_escaped():
    name = "<img src=x onerror=alert(1)>\"'&"
    escaped = "&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;&amp;"
    pieces = [
        html.message(name),
        html.class_table([ClassArea(0, name, (1, 2, 3), 0.5)]),
        html.pixel_answer(PixelAnswer(1, 2, 0, name, 0.5, ("tree", 0.4)), (1, 2, 3)),
        html.pixel_answer(PixelAnswer(1, 2, 0, "tree", 0.5, (name, 0.4)), (1, 2, 3)),
    ]
    for piece in pieces:
        assert escaped in piece
        assert "<img" not in piece


def test_shares_are_escaped():
    assert "&lt;0.1%</td>" in html.class_table([ClassArea(0, "tree", (1, 2, 3), 0.0001)])
    answer = html.pixel_answer(PixelAnswer(1, 2, 0, "tree", 0.9999, ("sky", 0.0001)), (1, 2, 3))
    assert "&gt;99.9%." in answer and "Next: sky, &lt;0.1%." in answer


def test_example_photos_name_their_sources(model, make_desk):
    examples = load_examples()
    assert 4 <= len(examples) <= 6
    shown = html.example_gallery(examples)
    for one in examples:
        assert one.path.stat().st_size <= 60_000
        assert one.source in shown and one.title in shown
        assert one.license == "CC BY 2.0" and one.license_url in shown
    assert make_desk().segment(examples[0].path, model).areas
