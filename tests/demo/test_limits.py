# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What strangers' models may cost: files that describe more are refused before anything of that size is made."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from cgrseg_hf.demo import limits
from cgrseg_hf.demo.limits import check_model
from cgrseg_hf.pretrained import DEFAULT_MODEL

MAX_PIXELS = 4_000_000


@pytest.fixture
def change(decided_folder, tmp_path) -> Callable[..., Path]:
    """Copy the tiny model with other settings."""

    def change(file: str = "config.json", backbone: dict | None = None, **settings) -> Path:
        folder = shutil.copytree(decided_folder, tmp_path / "model")
        changed = {**json.loads((folder / file).read_text()), **settings}
        if backbone:
            changed["backbone_config"] = {**changed["backbone_config"], **backbone}
        (folder / file).write_text(json.dumps(changed))
        return folder

    return change


def test_good_models_pass(change, tmp_path):
    check_model(change(), MAX_PIXELS)
    check_model(DEFAULT_MODEL, MAX_PIXELS)
    SegformerForSemanticSegmentation(
        SegformerConfig(hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=8)
    ).save_pretrained(tmp_path / "other", max_shard_size="20KB")
    SegformerImageProcessor().save_pretrained(tmp_path / "other")
    assert len(list((tmp_path / "other").glob("*.safetensors"))) > 1
    check_model(tmp_path / "other", MAX_PIXELS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder_hidden_size": 100_000}, r"describes [\d,]{14,} parameters, and its files hold \d+,\d+\."),
        ({"backbone": {"hidden_sizes": [16, 16, 32, 50_000]}}, r"describes [\d,]{14,} parameters, and its files hold"),
        ({"decoder_hidden_size": 10**12}, r"add up to 1e\+12"),
        ({"unknown": [{"number": -(10**12)}]}, r"add up to 1e\+12"),
        ({"unknown": float("nan")}, "add up to nan"),
        ({"num_labels": 1_000_000, "id2label": None}, "has 1,000,000 classes"),
        ({"backbone": {"num_labels": 1_000_000}}, "has 1,000,000 classes"),
        ({"id2label": {str(one): str(one) for one in range(1001)}}, "has 1,001 classes"),
        (
            {"file": "preprocessor_config.json", "size": {"height": 20_000, "width": 20_000}},
            "makes photos of more than",
        ),
        ({"file": "preprocessor_config.json", "size": 20_000}, r"size=20000, which .* 4,000,000 pixels"),
        ({"file": "preprocessor_config.json", "size": {"shortest_edge": 2001}}, "makes photos of more than"),
        ({"file": "preprocessor_config.json", "pad_size": [20_000, 20_000]}, "pad_size="),
        ({"file": "preprocessor_config.json", "size_divisor": 20_000}, "size_divisor=20000"),
    ],
)
def test_what_models_may_not_be(change, settings, message):
    with pytest.raises(ValueError, match=message):
        check_model(change(**settings), MAX_PIXELS)


def test_models_are_not_built_to_their_end_if_that_is_far(change, monkeypatch):
    monkeypatch.setattr(limits, "_MOST_MODULES", 1000)  # reached in a second
    deep = change(backbone={"depths": [1, 1, 100_000, 2], "mlp_expansion_ratios": 2})
    with pytest.raises(ValueError, match="more than 1,000 modules"):
        check_model(deep, MAX_PIXELS)
    assert len(torch.nn.ModuleList(torch.nn.Identity() for _ in range(1001))) == 1001  # nobody else is stopped


def test_files_that_hold_as_many_parameters_may_still_hold_too_many(change, monkeypatch):
    monkeypatch.setattr(limits, "_MOST_PARAMETERS", 10_000)
    with pytest.raises(ValueError, match=r"has [\d,]+ parameters, and this page takes models of up to 10,000"):
        check_model(change(), MAX_PIXELS)


@pytest.mark.parametrize("content", ["[]", "3", "{", "[" * 100_000])
def test_broken_settings(change, content):
    folder = change()
    (folder / "config.json").write_text(content)
    with pytest.raises((ValueError, RecursionError)):
        check_model(folder, MAX_PIXELS)
