# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What is a model, what was perhaps meant, and what is said where the Hub is out of reach."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from cgrseg_hf.model.configuration_cgrseg import PRESETS
from cgrseg_hf.pretrained import DEFAULT_MODEL
from cgrseg_hf.pretrained.locating import PRESET_NAMES, locate_model


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A training's folder in the folder where the command runs."""
    monkeypatch.chdir(tmp_path)
    best = Path("runs/mine/best")
    best.mkdir(parents=True)
    (best / "config.json").write_text("{}")
    return best


def test_folders_and_the_shipped_model(run):
    assert locate_model(run) == str(run)
    Path("shipped").mkdir()
    assert locate_model("shipped") == str(DEFAULT_MODEL)


def test_the_names_of_the_presets():
    assert set(PRESET_NAMES) == set(PRESETS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./runs/mine/bst", "There is no folder .* Did you mean runs/mine/best?"),
        ("run/mine/best", "There is no folder .* Did you mean runs/mine/best?"),
        ("runs/mine", "no config.json in it. Did you mean runs/mine/best?"),
        ("shiped", "owner/name. Did you mean shipped?"),
        ("xxs", "xs, t are known too.* Did you mean xs?"),
        ("~/no/such/model", "There is no folder '~/no/such/model'"),
    ],
)
def test_what_was_meant(run, monkeypatch, name, message):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=message):
        locate_model(name, ("xs", "t"))


def test_a_broken_configuration_is_named(run):
    (run / "config.json").write_text("{,")
    with pytest.raises(ValueError, match=r"best/config\.json is no JSON .*: take a new copy"):
        locate_model(run)


def test_in_a_folder_that_somebody_has_deleted(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ValueError, match=r"^There is no folder './mine'\.$"):
        locate_model("./mine")


def test_the_hub_is_asked(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    hub.store.create("user/model")
    assert locate_model("user/model") == "user/model"
    with pytest.raises(ValueError, match="neither a folder user/none nor"):
        locate_model("user/none")
    # What else it refuses is said by whoever fetches the model.
    (hub.store.root / "user" / "branchless").mkdir()
    assert locate_model("user/branchless") == "user/branchless"


def test_without_a_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:9\) could not be reached .*HF_ENDPOINT"):
        locate_model("user/model")
    fetched = tmp_path / "models--user--model"
    copy = fetched / "snapshots" / "0123"
    copy.mkdir(parents=True)
    (copy / "config.json").write_text("{}")
    (fetched / "refs").mkdir()
    (fetched / "refs" / "main").write_text("0123")
    assert locate_model("user/model") == str(copy)
