# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg card`: from an evaluation's report to a card that a push takes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor
from typer.testing import CliRunner, Result

from cgrseg_hf.commands.main import app
from cgrseg_hf.data import load_data
from cgrseg_hf.evaluation import EvaluationResult, evaluate_model, write_report
from cgrseg_hf.hub.cards import check_card_weights, read_card
from cgrseg_hf.utils.provenance import digest_weights

FACTS = """name: My model
summary: It segments.
dataset: A dozen photos
dataset_id: a-dozen-photos
license: mit
uses: Anything.
training: Not at all.
command: cgrseg train --data photos
limits: [Everything.]
"""


def run(folder: Path, *arguments: object) -> Result:
    """The command with the facts and the report beside the run's folder."""
    files = ["--facts", str(folder.parents[1] / "card.yaml"), "--report", str(folder.parents[1] / "report")]
    return CliRunner().invoke(app, ["card", str(folder), *files, *map(str, arguments)])


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.fixture
def folder(decided_folder: Path, tmp_path: Path) -> Path:
    """A run's folder with the model in it."""
    (tmp_path / "card.yaml").write_text(FACTS)
    return Path(shutil.copytree(decided_folder, tmp_path / "run" / "best"))


@pytest.fixture
def result(decided_model, folder: Path, tmp_path: Path) -> EvaluationResult:
    """An evaluation on an image of noise with labels of noise, with its report."""
    generator = np.random.default_rng(0)
    for kind, shape, highest in (("images", (60, 90, 3), 256), ("annotations", (60, 90), 5)):
        parent = tmp_path / "data" / "val" / kind
        parent.mkdir(parents=True)
        Image.fromarray(generator.integers(0, highest, shape, dtype=np.uint8)).save(parent / "a.png")
    (tmp_path / "data" / "id2label.json").write_text(json.dumps(decided_model.config.id2label))
    data = load_data(tmp_path / "data", "validation")
    result = evaluate_model(decided_model, AutoImageProcessor.from_pretrained(folder), data, progress=False)
    write_report(result, tmp_path / "report", model="mine", model_folder=folder)
    return result


def test_card_of_an_evaluation(folder: Path, decided_model, result: EvaluationResult):
    log = {"step": 7, "loss": 0.5, "mean_iou": 0.25, "overall_accuracy": 0.5}
    (folder.parent / "log.jsonl").write_text(json.dumps(log) + "\n")
    written = run(folder)
    assert written.exit_code == 0 and "Scores of mine: float32, 1 images" in written.stdout
    card = read_card(folder)
    assert card.data.eval_results[0].metric_value == round(result.metrics["mean_iou"], 4)
    for part in (
        f"{decided_model.num_parameters():,} parameters",
        "a shorter side of 96 pixels, or less where the longer one would exceed 400",
        "| 7 | 0.5000 | 25.00 | 50.00 |",
    ):
        assert part in card.text
    check_card_weights(folder, digest_weights(folder))
    with pytest.raises(ValueError, match=r"README\.md are of other weights than those in"):
        check_card_weights(folder, {"model.safetensors": "0" * 64})
    (folder / "README.md").write_text((folder / "README.md").read_text().replace("It segments.", "It segments well."))
    assert "--overwrite" in str(run(folder).exception)
    assert "It segments well." in (folder / "README.md").read_text()


def test_reports_of_another_model(folder: Path, tmp_path: Path, result: EvaluationResult):
    report = tmp_path / "report" / "report.json"
    change(report, weights={"model.safetensors": "0" * 64})
    assert f"of other weights than those in {folder}: of mine, or " in str(run(folder).exception)
    change(report, weights={})
    written = run(folder)
    assert written.exit_code == 0 and "has no checksums of weights" in written.stderr
    change(report, classes=[{"name": "another"}])
    assert "other classes, 1 (another)" in str(run(folder, "--overwrite").exception)


def test_says_what_is_missing(folder: Path, tmp_path: Path):
    report = tmp_path / "report" / "report.json"
    assert "report: pass the folder that cgrseg evaluate wrote" in str(run(folder).exception)
    report.parent.mkdir()
    for content in ("{", "[]"):
        report.write_text(content)
        assert str(report) in str(run(folder).exception)
    report.write_text("{}")
    without_facts = CliRunner().invoke(app, ["card", str(folder), "--report", str(report)])
    assert "a YAML file that you write" in str(without_facts.exception)
    (tmp_path / "card.yaml").write_text(FACTS.replace("license: mit\n", ""))
    assert "card.yaml does not have license" in str(run(folder).exception)
    (folder / "config.json").unlink()
    assert f"{folder} has no config.json" in str(run(folder).exception)
