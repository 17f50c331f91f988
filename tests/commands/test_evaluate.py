# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg evaluate` as a person runs it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.noisy_data import write_noisy_data
from transformers import AutoImageProcessor
from transformers.image_utils import SizeDict
from typer.testing import CliRunner, Result

from cgrseg_hf.commands import evaluate as command
from cgrseg_hf.commands.data_options import override_size
from cgrseg_hf.commands.main import app
from cgrseg_hf.data import load_data
from cgrseg_hf.evaluation import evaluate_model
from cgrseg_hf.utils.provenance import digest_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_noisy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def scores(decided_model, decided_folder, folder):
    image_processor = AutoImageProcessor.from_pretrained(decided_folder)
    return evaluate_model(decided_model, image_processor, load_data(folder, "validation"), keep_worst=2, progress=False)


@pytest.fixture
def run(folder, tmp_path, monkeypatch) -> Callable[..., Result]:
    """Run the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        options = ["--data", folder, "--num-workers", 0]
        return CliRunner().invoke(app, ["evaluate", *map(str, [*arguments, *options])])

    return run


def test_table_and_report(run, decided_folder, scores, tmp_path):
    done = run(decided_folder, "--worst", 2)
    assert done.exit_code == 0
    output = Path("runs/evaluate") / decided_folder.name
    assert str(output) in done.stdout.splitlines()[-1]
    assert "Protocol: whole image" in done.stderr and "Warning" not in done.stderr
    report = json.loads((output / "report.json").read_text())
    assert report["metrics"]["mean_iou"] == scores.metrics["mean_iou"]
    assert report["weights"] == digest_weights(decided_folder) != {}
    assert len(list((output / "worst").iterdir())) == 2


def test_options_arrive(run, decided_folder, tmp_path):
    options = "--json --protocol reference --scales 0.5,1 --flip --slide --crop-size 48x40 --size 120"
    options += f" --limit 2 --worst 0 --precision bf16 --split val --device cpu --output {tmp_path / 'here'}"
    done = run(decided_folder, *options.split())
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert str(tmp_path / "here") in done.stderr.splitlines()[-1]
    assert report["num_images"] == 2 and report["precision"] == "bfloat16" and report["worst"] == []
    assert report["extra"]["size"] == {"shortest_edge": 120, "longest_edge": 500}
    expected = {"scales": [0.5, 1.0], "flip": True, "slide": True, "crop_size": [48, 40], "reference": True}
    expected["stride"] = [32, 26]  # two thirds of the windows
    assert expected.items() <= report["protocol"].items()


def test_an_export_is_scored(run, exported, scores):
    done = run(exported("openvino").folder, "--json")
    report = json.loads(done.stdout)
    assert done.exit_code == 0 and report["precision"] == "float32" and report["num_images"] == scores.num_images
    assert report["metrics"]["mean_iou"] == pytest.approx(scores.metrics["mean_iou"], abs=1e-3)
    assert run(exported("openvino").folder, "--precision", "bf16").exit_code == 2


def test_an_engine_scores_as_the_model_does(run, decided_folder, scores):
    report = json.loads(run(decided_folder, "--json", "--engine", "torch", "--device", "cpu").stdout)
    assert report["extra"]["engine"] == "torch" and report["device"] == "cpu"
    assert report["metrics"]["mean_iou"] == pytest.approx(scores.metrics["mean_iou"], abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        ["--scales", "big"],
        ["--slide", "--stride", "600"],
        ["--slide", "--crop-size", "1x2x3"],
        ["--crop-size", "300"],
        ["--protocol", "other"],
        ["--precision", "int8"],
        ["--engine", "tensorrt"],
        ["--device", "the best"],
    ],
)
def test_wrong_usage_ends_with_2(run, decided_folder, options: list[str]):
    assert run(decided_folder, *options).exit_code == 2


def test_two_processes_report_what_one_does(decided_folder, folder, scores, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    options = ["--data", folder, "--worst", "2", "--num-workers", "0", "--output", tmp_path / "report"]
    ended = subprocess.run(
        [*launcher, "-m", "cgrseg_hf", "evaluate", decided_folder, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["extra"]["num_processes"] == 2 and report["num_images"] == 7
    assert report["confusion_matrix"] == scores.confusion_matrix.tolist()
    assert report["metrics"]["mean_iou"] == scores.metrics["mean_iou"]
    worst = [(image.name, image.mean_iou) for image in scores.worst]
    assert [(one["name"], one["mean_iou"]) for one in report["worst"]] == worst
    assert len(list((tmp_path / "report" / "worst").iterdir())) == 2


def test_other_names_are_warned_of():
    names = {0: "a", 1: "b"}
    assert command._compare_names(names, names) == []
    assert "1 is 'b' and 'c'" in command._compare_names(names, {0: "a", 1: "c"})[0]
    assert command._compare_names({0: "LABEL_0", 1: "LABEL_1"}, names) == []


@pytest.mark.parametrize(
    ("size", "shorter_side", "expected"),
    [
        (SizeDict(height=512, width=512), 64, {"height": 64, "width": 64}),
        ({"shortest_edge": 512, "longest_edge": 2048}, 64, {"shortest_edge": 64, "longest_edge": 2048}),
        ({"shortest_edge": 512, "longest_edge": 2048}, 2048, {"shortest_edge": 2048, "longest_edge": 8192}),
    ],
)
def test_size_of_any_processor(size, shorter_side: int, expected: dict):
    assert override_size(size, shorter_side) == expected
