# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg benchmark`."""

import json

import pytest
from typer.testing import CliRunner

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.commands.main import app


def run(*arguments: object):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


def test_one_call_counts_times_and_writes(tiny_config, tmp_path):
    model, output = tmp_path / "tiny", tmp_path / "report"
    CGRSegForSemanticSegmentation(tiny_config()).save_pretrained(model)
    CGRSegImageProcessor().save_pretrained(model)
    options = ("--sizes", "32x64, 64", "--rounds", 1, "--threads", 1, "--forms", "inference", "--device", "cpu")
    shown = run(model, *options, "--output", output)
    assert shown.exit_code == 0, shown.output
    assert "tiny, torch, inference, float32" in shown.stdout
    report = json.loads((output / "benchmark.json").read_text(encoding="utf-8"))
    assert [row["size"] for row in report["measurements"]] == [[32, 64], [64, 64]]
    assert report["settings"]["models"] == [str(model)]
    assert (output / "latency.png").is_file()

    counted = run(model, "--against", "xs", "--rounds", 0, "--json", "--output", output)
    counts = json.loads(counted.stdout)["counts"]
    assert [(count["model"], count["parameters"] > 0) for count in counts] == [("tiny", True), ("CGRSeg-XS", True)]
    assert not (output / "latency.png").exists()  # the earlier report's


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sizes", "512×"), "'512×'"),
        (("--batch-sizes", "one"), "'one'"),
        (("--sizes", "1x2x3"), "'1x2x3'"),
        (("--photos", "no/such/folder"), "no/such/folder"),
    ],
)
def test_wrong_options_are_named(arguments, message):
    shown = run("xs", *arguments)
    assert shown.exit_code == 2
    assert message in shown.output.replace("\n", " ")
