# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Legends: patches, names, and numbers that line up."""

import numpy as np
import pytest

from cgrseg_hf.visualization import draw_legend
from cgrseg_hf.visualization.fonts import load_font
from cgrseg_hf.visualization.legends import format_share

RED, BLUE = (250, 10, 20), (20, 10, 250)


def find_text(legend: np.ndarray) -> np.ndarray:
    """Where there is ink that is no patch: rows and columns, (2, pixels)."""
    patches = (legend == RED).all(axis=2) | (legend == BLUE).all(axis=2)
    ink = (legend < 200).all(axis=2) & ~patches
    ink[:, : np.nonzero(patches.any(axis=0))[0].max() + 5] = False  # outlines
    return np.array(np.nonzero(ink))


def test_numbers_end_at_the_same_column():
    rows, columns = find_text(np.asarray(draw_legend([(RED, "a", "100.0%"), (BLUE, "much longer", "1.0%")], 200)))
    middle = rows.mean()
    assert columns[rows < middle].max() == pytest.approx(columns[rows > middle].max(), abs=1)


def test_headings_stand_above_their_numbers():
    entries = [(RED, "road", "10.0%", "12.0%")]
    plain = draw_legend(entries, 200)
    headed = draw_legend(entries, 200, headings=("truth", "prediction"))
    assert headed.height > plain.height and headed.width > plain.width
    rows, _ = find_text(np.asarray(headed))
    patch = np.nonzero((np.asarray(headed) == RED).all(axis=2))[0]
    assert (rows < patch.min()).any() and rows.max() <= patch.max()


def test_no_classes_at_all():
    assert min(draw_legend([], 200).size) > 0


def test_shares():
    shares = {1: "100.0%", 0.9996: ">99.9%", 0.5: "50.0%", 0.001: "0.1%", 0.0004: "<0.1%", 0: "0.0%"}
    assert {share: format_share(share) for share in shares} == shares


def test_fonts_have_the_characters_of_the_names():
    assert load_font(20, ["road"]).getname()[0] == load_font(20).getname()[0]
    font = load_font(20, ["Straße", "дорога"])
    if font.getname() == load_font(20).getname():
        pytest.skip("no font with these characters is installed")
    box = bytes(font.getmask("\uffff"))
    assert all(bytes(font.getmask(character)) != box for character in "Straßedог")
