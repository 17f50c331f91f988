# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""cgrseg info as a user runs it."""

import importlib.metadata
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cgrseg_hf.commands.main import app
from cgrseg_hf.engines.names import ENGINE_NAMES


def test_what_is_installed():
    shown = CliRunner().invoke(app, ["info", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert len(found["gpus"]) == torch.cuda.device_count()
    assert list(found["engines"]) == [name for name in ENGINE_NAMES if name != "auto"]
    assert found["engines"]["torch"] == {"missing": []}
    assert (Path(found["shipped_model"]) / "model.safetensors").is_file()
    assert "export" in found["extras"]
    assert "test" not in found["extras"]


def test_a_package_that_is_missing_is_named(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else real(name))
    shown = CliRunner().invoke(app, ["info"])
    assert shown.exit_code == 0
    (line,) = [line for line in shown.stdout.splitlines() if line.strip().startswith("openvino ")]
    assert 'pip install "cgrseg_hf[export]"' in line


def test_kept_exports_are_deleted(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    kept = tmp_path / "cgrseg_hf" / "exports" / "onnx-float32-0123"
    kept.mkdir(parents=True)
    (kept / "export.json").write_text("{}")
    (kept / "model.onnx").write_bytes(bytes(3_000_000))
    (tmp_path / "hub").mkdir()
    shown = CliRunner().invoke(app, ["info"])
    assert "Exports made for engines: 1, 3 MB" in shown.stdout
    shown = CliRunner().invoke(app, ["info", "--clear-exports"])
    assert "Deleted 1 exports, 3 MB." in shown.stdout and "Exports made for engines: 0, 0 MB" in shown.stdout
    assert not kept.exists() and (tmp_path / "hub").exists()


def test_an_engine_that_fails(monkeypatch):
    engines = {"torch": (), "abacus": ()}  # the second is installed, and computes nothing
    monkeypatch.setattr("cgrseg_hf.engines.names.ENGINE_PACKAGES", engines)
    shown = CliRunner().invoke(app, ["info", "--check"])
    lines = [line.split(maxsplit=1) for line in shown.stdout.splitlines()]
    states = {line[0]: line[1] for line in lines if line and line[0] in engines}
    assert states["torch"] == "works" and states["abacus"].startswith("fails: ValueError: ")
    assert shown.exit_code == 1


@pytest.mark.long
def test_engines_are_tried():
    shown = CliRunner().invoke(app, ["info", "--check", "--json"])
    engines = json.loads(shown.stdout[shown.stdout.index("{") :])["engines"]
    assert all(engine["error"] is None for engine in engines.values() if not engine["missing"]), engines
    assert shown.exit_code == 0
