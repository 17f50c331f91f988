# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg benchmark`."""

import json
import sys

import pytest
from typer.testing import CliRunner

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.commands.main import app


def run(*arguments: str):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


def test_one_call_counts_times_and_writes(tiny_config, tmp_path, monkeypatch):
    model = tmp_path / "tiny"
    CGRSegForSemanticSegmentation(tiny_config()).save_pretrained(model)
    CGRSegImageProcessor().save_pretrained(model)
    output = tmp_path / "report"
    shown = run(
        model, "--sizes", "32x64, 64", "--rounds", 1, "--threads", 1, "--forms", "inference", "--output", output
    )
    assert shown.exit_code == 0, shown.output
    assert "tiny, torch, inference, float32" in shown.stdout
    report = json.loads((output / "benchmark.json").read_text(encoding="utf-8"))
    assert [one["size"] for one in report["measurements"]] == [[32, 64], [64, 64]]
    assert report["settings"]["models"] == [str(model)]

    counted = run(model, "--against", "xs", "--rounds", 0, "--json", "--output", output)
    assert [one["model"] for one in json.loads(counted.stdout)["counts"]] == ["tiny", "CGRSeg-XS"]
    assert not (output / "latency.png").exists()  # the picture of the report before

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    shown = run(model, "--sizes", "32", "--rounds", 1, "--forms", "inference", "--device", "cpu", "--output", output)
    assert 'For a picture, install matplotlib: pip install "cgrseg_hf[benchmark]"' in shown.stderr
    assert [file.name for file in output.iterdir()] == ["benchmark.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "512×"), "'512×' is not made of whole numbers"),
        (("--batch-sizes", "one"), "not made of whole numbers"),
        (("--sizes", "1x2x3"), "neither one number nor two"),
        (("--photos", "no/such/folder"), "no/such/folder"),
    ],
)
def test_wrong_options_are_named(arguments, message):
    shown = run("xs", *arguments)
    assert shown.exit_code == 2
    assert message in shown.output.replace("\n", " ")
