# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg card`: from an evaluation's report to a card that a push takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.card_rules import find_errors
from PIL import Image
from transformers import AutoImageProcessor
from typer.testing import CliRunner

from cgrseg_hf.commands.main import app
from cgrseg_hf.data import SegmentationData, load_data
from cgrseg_hf.evaluation import evaluate_model, write_report
from cgrseg_hf.hub.cards import read_card
from cgrseg_hf.hub.model_card import check_weights

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


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "cgrseg_hf", "card", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def folder(decided_folder: Path, tmp_path: Path) -> Path:
    """A run's folder with the model in it."""
    (tmp_path / "card.yaml").write_text(FACTS)
    return Path(shutil.copytree(decided_folder, tmp_path / "run" / "best"))


@pytest.fixture
def data(decided_model, tmp_path: Path) -> SegmentationData:
    """A picture of noise with labels of noise."""
    generator = np.random.default_rng(0)
    for kind, shape, highest in (("images", (60, 90, 3), 256), ("annotations", (60, 90), 5)):
        folder = tmp_path / "data" / "val" / kind
        folder.mkdir(parents=True)
        Image.fromarray(generator.integers(0, highest, shape, dtype=np.uint8)).save(folder / "a.png")
    (tmp_path / "data" / "id2label.json").write_text(json.dumps(decided_model.config.id2label))
    return load_data(tmp_path / "data", "validation")


def test_card_of_an_evaluation(folder: Path, tmp_path: Path, decided_model, data: SegmentationData):
    result = evaluate_model(decided_model, AutoImageProcessor.from_pretrained(folder), data, progress=False)
    write_report(result, tmp_path / "report", model="mine", model_folder=folder)
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 7, "loss": 0.5, "mean_iou": 0.25, "overall_accuracy": 0.5}\n')
    ended = run(folder, "--facts", tmp_path / "card.yaml", "--report", tmp_path / "report")
    assert ended.returncode == 0, ended.stderr
    card = read_card(folder)
    assert find_errors(str(card)) == []
    assert card.data.eval_results[0].metric_value == round(result.metrics["mean_iou"], 4)
    assert f"{decided_model.num_parameters():,} parameters" in card.text
    assert "a shorter side of 96 pixels, or less where the longer one would exceed 400" in card.text
    assert "| 7 | 0.5000 | 25.00 | 50.00 |" in card.text
    assert "## Speed" not in card.text
    assert "Scores of mine: float32, 1 images, a shorter side of 96 pixels" in ended.stdout

    check_weights(folder / "README.md", folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + b"x")
    with pytest.raises(ValueError, match=r"README\.md are of other weights than those in .* write the card anew"):
        check_weights(folder / "README.md", folder)
    (folder / "model.safetensors").write_bytes(weights)

    (folder / "README.md").write_text((folder / "README.md").read_text().replace("It segments.", "It segments well."))
    ended = run(folder, "--facts", tmp_path / "card.yaml", "--report", tmp_path / "report")
    assert ended.returncode == 1 and "somebody has changed it" in ended.stderr
    assert "It segments well." in (folder / "README.md").read_text()

    report = json.loads((tmp_path / "report" / "report.json").read_text())
    report["weights"]["model.safetensors"] = "0" * 64
    (tmp_path / "report" / "report.json").write_text(json.dumps(report))
    ended = run(folder, "--facts", tmp_path / "card.yaml", "--report", tmp_path / "report", "--overwrite")
    assert ended.returncode == 1 and f"of other weights than those in {folder}: of mine, or " in ended.stderr
    report["weights"] = {}
    (tmp_path / "report" / "report.json").write_text(json.dumps(report))
    ended = run(folder, "--facts", tmp_path / "card.yaml", "--report", tmp_path / "report", "--overwrite")
    assert ended.returncode == 0 and "does not tell its weights: see that they are those in" in ended.stderr
    report["classes"][0]["name"] = "another"
    (tmp_path / "report" / "report.json").write_text(json.dumps(report))
    ended = run(folder, "--facts", tmp_path / "card.yaml", "--report", tmp_path / "report", "--overwrite")
    assert ended.returncode == 1 and "other classes, 5 (another, " in ended.stderr


def test_says_what_is_missing(folder: Path, tmp_path: Path):
    (tmp_path / "card.yaml").write_text(FACTS.replace("license: mit\n", ""))
    ended = run(folder, "--facts", tmp_path / "card.yaml", "--report", tmp_path)
    assert ended.returncode == 1 and "does not say license" in ended.stderr and "Traceback" not in ended.stderr
    (tmp_path / "card.yaml").write_text(FACTS)
    ended = run(folder, "--facts", tmp_path / "card.yaml", "--report", tmp_path)
    assert ended.returncode == 1 and f"There is no {tmp_path / 'report.json'}" in ended.stderr
    (tmp_path / "report.json").write_text("{}")
    ended = run(folder, "--report", tmp_path)
    assert ended.returncode == 1 and "a YAML file that you write" in ended.stderr
    error = CliRunner().invoke(app, ["card", str(tmp_path), "--report", str(tmp_path)]).exception
    assert isinstance(error, ValueError) and str(error).startswith(f"{tmp_path} has no config.json: give the folder")


@pytest.mark.parametrize(("content", "message"), [("{", "is no JSON"), ("[]", "holds a list")])
def test_report_that_is_damaged(folder: Path, tmp_path: Path, content: str, message: str):
    file = tmp_path / "report.json"
    file.write_text(content)
    arguments = [str(folder), "--facts", str(tmp_path / "card.yaml"), "--report", str(tmp_path)]
    error = CliRunner().invoke(app, ["card", *arguments]).exception
    assert isinstance(error, ValueError) and str(error).startswith(f"{file} {message}")
