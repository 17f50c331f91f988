# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Reports: files that others can read, and pictures of the right size."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.evaluation import evaluate_model, per_class_table, without_sources, write_report
from cgrseg_hf.evaluation.report import escape_cell
from cgrseg_hf.visualization import class_color
from cgrseg_hf.visualization.panels import color_label_map, draw_confusion_matrix, draw_panel, get_colors


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture(scope="module")
def result(model, image_processor, data):
    return evaluate_model(model, image_processor, data, keep_worst=2, progress=False)


def test_report_in_numbers(result, tmp_path):
    path = write_report(result, tmp_path / "new" / "folder", model="someone/model", extra={"seed": 7, "limit": None})
    report = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert path == tmp_path / "new" / "folder" / "report.json"
    assert report["model"] == "someone/model" and report["seed"] == 7 and report["extra"] == {"limit": None}
    assert report["metrics"]["mean_iou"] == result.metrics["mean_iou"]
    assert report["num_images"] == 7 and report["num_pixels"] == result.confusion_matrix.sum()
    assert report["data"]["split"] == "validation" and report["protocol"]["scales"] == [1.0]
    assert {"torch", "transformers", "datasets", "cgrseg_hf", "python"} <= report["versions"].keys()
    assert [one["name"] for one in report["classes"]] == list(result.id2label.values())
    assert report["classes"][4]["accuracy"] is None  # no pixel of it in the truth
    assert sum(one["share"] for one in report["classes"]) == pytest.approx(1)
    assert [one["name"] for one in report["worst"]] == [image.name for image in result.worst]

    handed_on = json.dumps(without_sources(report))
    assert "worst" in report and "description" in report["data"]  # the report itself stays as it is
    assert report["data"]["description"] not in handed_on
    assert not any(image.name in handed_on for image in result.worst)
    assert json.loads(handed_on)["confusion_matrix"] == report["confusion_matrix"]


def test_spreadsheet_takes_no_name_for_a_formula(result, tmp_path):
    write_report(result, tmp_path, model="model")
    with (tmp_path / "per_class.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["road", "'=SUM(A1)", "sky", "'-tree", "never"]
    assert float(rows[0]["iou"]) == result.metrics["per_category_iou"][0] and rows[4]["accuracy"] == ""


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", " =1", "\r=1"])
def test_escapes(text: str):
    assert escape_cell(text) == f"'{text}"
    assert escape_cell("a" + text) == "a" + text


def test_pictures_of_the_worst(result, tmp_path):
    (tmp_path / "worst").mkdir()
    (tmp_path / "worst" / "09_of_an_earlier_report.png").touch()
    (tmp_path / "worst" / "mine.png").touch()
    write_report(result, tmp_path, model="model")
    names = [f"{rank:02d}_{image.name}" for rank, image in enumerate(result.worst, start=1)]
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == [*names, "mine.png"]
    for name in names:
        Image.open(tmp_path / "worst" / name).verify()


@pytest.mark.parametrize("size", [(40, 60), (960, 600), (1, 1), (3, 2000)])
def test_panel(size: tuple[int, int]):
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, size).astype(np.uint8)
    truth[0, 0] = 255
    prediction = generator.integers(0, 3, size).astype(np.uint8)
    panel = draw_panel(Image.new("RGB", size[::-1]), truth, prediction, dict(enumerate("abc")), title="A title")
    scale = min(480 / max(size), 1)
    height, width = (max(round(length * scale), 1) for length in size)
    assert panel.width > 2 * width and 2 * height < panel.height < 2 * height + 220
    assert max(panel.size) <= 2 * 480 + 400


def test_panel_shows_truth_and_errors_where_they_are():
    truth = np.zeros((50, 60), dtype=np.uint8)
    prediction = truth.copy()
    prediction[:, 30:] = 1
    palette = [(10, 200, 30), (0, 0, 250)]
    panel = np.asarray(
        draw_panel(Image.new("RGB", (60, 50), "white"), truth, prediction, {0: "a", 1: "b"}, palette)
    ).astype(int)
    colors, counts = np.unique(panel.reshape(-1, 3), axis=0, return_counts=True)
    found = {tuple(color): count for color, count in zip(colors.tolist(), counts.tolist())}
    legend = 17 * 12
    assert 50 * 60 * 1.5 <= found[10, 200, 30] <= 50 * 60 * 1.5 + legend
    assert 50 * 30 <= found[0, 0, 250] <= 50 * 30 + legend
    reddish = (panel[..., 0] > 200) & (panel[..., 1] < 130) & (panel[..., 2] < 130)
    assert reddish.sum() == 50 * 30


def test_panel_refuses_maps_of_other_sizes():
    with pytest.raises(ValueError, match="must be equal"):
        draw_panel(Image.new("RGB", (4, 4)), np.zeros((4, 4)), np.zeros((4, 5)), {0: "a"})


def test_colors():
    assert get_colors(2) == [class_color(0), class_color(1)]
    assert get_colors(1, [[1, 2, 3]]) == [(1, 2, 3)]
    colored = np.asarray(color_label_map(np.array([[0, -100]]), [(1, 2, 3)], ignore_index=-100))
    assert colored[0, 0].tolist() == [1, 2, 3] and colored[0, 1].tolist() != [1, 2, 3]


@pytest.mark.parametrize("num_labels", [1, 2, 6, 11, 171])
def test_confusion_matrix(num_labels: int):
    matrix = np.diag(np.arange(num_labels)) * 100
    names = {class_id: f"class number {class_id}" for class_id in range(num_labels)}
    picture = draw_confusion_matrix(matrix, names)
    cell = 56 if num_labels <= 11 else 11
    assert num_labels * cell < picture.width < num_labels * cell + 480
    assert num_labels * cell < picture.height < num_labels * cell + 300
    margin = np.asarray(picture)[:, -4:]
    assert (margin == 255).all()  # nothing is cut at the right


def test_table(result):
    lines = per_class_table(result).splitlines()
    assert [line.split()[1] for line in lines[1:6]] == ["road", "=SUM(A1)", "sky", "-tree", "never"]
    assert f"{result.metrics['per_category_iou'][0] * 100:.2f}" in lines[1]
    assert "–" in lines[5]
    assert lines[-3].split() == ["mean", "IoU", f"{result.metrics['mean_iou'] * 100:.2f}"]
    assert len({len(line) for line in lines[:6]}) == 1
