# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg evaluate` as a person runs it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoImageProcessor
from transformers.image_utils import SizeDict

from cgrseg_hf import CGRSegForSemanticSegmentation
from cgrseg_hf.commands import evaluate as command
from cgrseg_hf.commands.main import main
from cgrseg_hf.evaluation import evaluate_model
from cgrseg_hf.utils.provenance import digest_weights


@pytest.fixture(scope="module")
def saved(model, image_processor, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("run") / "best"
    for part in (model, image_processor):
        part.save_pretrained(folder)
    return str(folder)


def run(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["cgrseg", "evaluate", *map(str, arguments), "--num-workers", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


def test_table_and_report(saved, folder, model, image_processor, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, saved, "--data", folder, "--worst", "2")
    assert code == 0
    output = Path("runs/evaluate") / f"{Path(saved).parent.name}-best"
    assert str(output) in out.splitlines()[-1]
    assert "Protocol: whole image" in err and "Warning" not in err
    report = json.loads((tmp_path / output / "report.json").read_text())
    expected = evaluate_model(model, image_processor, data, progress=False)
    assert report["metrics"]["mean_iou"] == expected.metrics["mean_iou"]
    assert report["weights"] == digest_weights(Path(saved)) != {}
    assert len(list((tmp_path / output / "worst").iterdir())) == 2


def test_options_arrive(saved, folder, tmp_path, monkeypatch, capsys):
    options = [
        "--json",
        "--protocol",
        "reference",
        "--scales",
        "0.5,1",
        "--flip",
        "--slide",
        "--crop-size",
        "48x40",
        "--stride",
        "30",
        "--size",
        "60",
    ]
    options += f"--limit 2 --worst 0 --precision bf16 --split val --output {tmp_path / 'here'}".split()
    code, out, err = run(monkeypatch, capsys, saved, "--data", folder, *options)
    assert code == 0
    report = json.loads(out)
    assert str(tmp_path / "here") in err.splitlines()[-1]
    assert report["num_images"] == 2 and report["precision"] == "bfloat16" and report["worst"] == []
    assert report["extra"]["size"] == {"shortest_edge": 60, "longest_edge": 200}
    protocol = {name: report["protocol"][name] for name in ("scales", "flip", "slide", "crop_size", "reference")}
    assert protocol == {"scales": [0.5, 1.0], "flip": True, "slide": True, "crop_size": [48, 40], "reference": True}


def test_an_export_is_scored(exported, decided_folder, folder, data, tmp_path, monkeypatch, capsys):
    export = exported("openvino").folder
    code, out, _ = run(monkeypatch, capsys, export, "--data", folder, "--json", "--output", tmp_path / "report")
    model = CGRSegForSemanticSegmentation.from_pretrained(decided_folder)
    expected = evaluate_model(model, AutoImageProcessor.from_pretrained(decided_folder), data, progress=False)
    report = json.loads(out)
    assert code == 0 and report["precision"] == "float32" and report["num_images"] == expected.num_images
    assert report["metrics"]["mean_iou"] == pytest.approx(expected.metrics["mean_iou"], abs=1e-3)
    assert run(monkeypatch, capsys, export, "--data", folder, "--precision", "bf16")[0] == 2


@pytest.mark.parametrize(
    "options",
    [
        ["--scales", "big"],
        ["--slide", "--stride", "600"],
        ["--slide", "--crop-size", "1x2x3"],
        ["--crop-size", "300"],
        ["--protocol", "other"],
        ["--precision", "int8"],
    ],
)
def test_wrong_usage_ends_with_2(saved, folder, options: list[str], monkeypatch, capsys):
    assert run(monkeypatch, capsys, saved, "--data", folder, *options)[0] == 2


def test_the_step_of_windows_goes_with_their_size(saved, folder, tmp_path, monkeypatch, capsys):
    options = ["--slide", "--crop-size", "30", "--limit", "1", "--worst", "0", "--output", tmp_path / "report"]
    assert "windows of 30×30 pixels every 20×20" in run(monkeypatch, capsys, saved, "--data", folder, *options)[2]


def test_what_is_not_there_is_said_in_a_line(saved, tmp_path, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, saved, "--data", tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert "nowhere does not exist" in err.splitlines()[-1]


def test_a_configuration_that_does_not_fit(saved, folder, tmp_path, monkeypatch, capsys):
    config = json.loads((Path(saved) / "config.json").read_text()) | {"decoder_hidden_size": "big"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text((Path(saved) / "preprocessor_config.json").read_text())
    code, _, err = run(monkeypatch, capsys, tmp_path, "--data", folder)
    assert code == 1
    assert err.splitlines()[-1].startswith("Error: a setting of the model does not fit: Field 'decoder_hidden_size'")


def test_other_names_are_warned_of():
    names = {0: "a", 1: "b"}
    assert command._compare_names(names, names) == []
    assert "1 is 'b' and 'c'" in command._compare_names(names, {0: "a", 1: "c"})[0]
    assert command._compare_names({0: "LABEL_0", 1: "LABEL_1"}, names) == []


def test_size_of_any_processor():
    assert command.override_size(SizeDict(height=512, width=512), 64) == {"height": 64, "width": 64}
    usual = {"shortest_edge": 512, "longest_edge": 2048}
    assert command.override_size(usual, 64) == {"shortest_edge": 64, "longest_edge": 2048}
    assert command.override_size(usual, 2048) == {"shortest_edge": 2048, "longest_edge": 8192}
    assert np.all([command.parse_pair("7", int, "--x") == (7, 7), command.parse_pair("7, 9", int, "--x") == (7, 9)])
