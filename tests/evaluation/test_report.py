# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Reports: files that others can read, and images."""

import csv
import json

import pytest
from PIL import Image

from cgrseg_hf.evaluation import evaluate_model, per_class_table, without_sources, write_report


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


def test_images_of_the_worst(result, tmp_path):
    (tmp_path / "worst").mkdir()
    (tmp_path / "worst" / "09_of_an_earlier_report.png").touch()
    (tmp_path / "worst" / "mine.png").touch()
    write_report(result, tmp_path, model="model")
    names = [f"{rank:02d}_{image.name}" for rank, image in enumerate(result.worst, start=1)]
    assert sorted(path.name for path in (tmp_path / "worst").iterdir()) == [*names, "mine.png"]
    for name in names:
        Image.open(tmp_path / "worst" / name).verify()


def test_table(result):
    lines = per_class_table(result).splitlines()
    assert [line.split()[1] for line in lines[1:6]] == ["road", "=SUM(A1)", "sky", "-tree", "never"]
    assert f"{result.metrics['per_category_iou'][0] * 100:.2f}" in lines[1]
    assert "–" in lines[5]
    assert lines[-3].split() == ["mean", "IoU", f"{result.metrics['mean_iou'] * 100:.2f}"]
    assert len({len(line) for line in lines[:6]}) == 1
