# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""cgrseg convert as a user runs it, with files of both kinds."""

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
)
from typer.testing import CliRunner

from cgrseg_hf import CGRSegForSemanticSegmentation
from cgrseg_hf.commands.main import app
from cgrseg_hf.conversion import to_official


@pytest.fixture
def model(tiny_config) -> CGRSegForSemanticSegmentation:
    torch.manual_seed(0)
    return CGRSegForSemanticSegmentation(tiny_config(num_labels=11)).eval()


@pytest.fixture
def checkpoint(model, tmp_path):
    """A file as mmsegmentation writes it."""
    file = tmp_path / "iter_80000.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": to_official(model)}, file)
    return file


def convert(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


@pytest.mark.parametrize("option", ["--dataset", "--class-names"])
def test_a_checkpoint_becomes_a_model_with_names(model, checkpoint, tmp_path, option):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({str(index): f"thing {index}" for index in range(11)}))
    folder = tmp_path / "model"
    result = convert(checkpoint, "-o", folder, option, "camvid" if option == "--dataset" else names)
    assert result.exit_code == 0, result.output
    loaded = AutoModelForSemanticSegmentation.from_pretrained(folder)
    first_name = "sky" if option == "--dataset" else "thing 0"
    assert (loaded.config.id2label[0], loaded.config.label2id[first_name]) == (first_name, 0)
    assert AutoImageProcessor.from_pretrained(folder).num_labels == 11
    pixel_values = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)


def test_a_model_becomes_a_checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / "out" / "model.pth"
    assert convert(tmp_path / "model", "-o", file).exit_code == 0
    stored = torch.load(file, weights_only=True)
    expected = to_official(model)
    assert stored["state_dict"].keys() == expected.keys()
    assert all(torch.equal(stored["state_dict"][name], tensor) for name, tensor in expected.items())
    assert len(stored["meta"]["CLASSES"]) == 11


def test_options_that_do_not_fit_are_refused(model, checkpoint, tmp_path):
    folder, notes = tmp_path / "model", tmp_path / "notes.pth"
    model.save_pretrained(folder)
    notes.mkdir()
    for arguments, said in {
        (tmp_path / "none.pth",): "There is no checkpoint",
        (checkpoint, "--dataset", "camvid", "--class-names", "names.txt"): "pass one of them",
        (checkpoint, "-o", checkpoint, "--overwrite"): "is a file: name a folder",
        (checkpoint, "-o", folder): "--overwrite",
        (folder, "-o", notes): "is a folder: name a file",
        (folder, "-o", tmp_path / "b"): "must end with .pth",
        (folder, "--dataset", "camvid"): "--dataset: these are for checkpoint files",
    }.items():
        refused = convert(*arguments)
        assert refused.exit_code == 2 and said in refused.output
    wrong = convert(checkpoint, "-o", tmp_path / "a", "--dataset", "ade20k")
    assert "11 classes" in str(wrong.exception) and "150" in str(wrong.exception)
    assert not (tmp_path / "a").exists()
    assert convert(checkpoint, "-o", folder, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"  <!DOCTYPE html><title>Sign in</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"PK\x03\x04" + bytes(100), "a zip archive that torch.save did not write"),
        (b"learning_rate: 0.1\n", "text"),
        (bytes(range(256)), "damaged"),
    ],
)
def test_a_file_that_is_not_a_checkpoint(tmp_path, content, kind):
    file = tmp_path / "iter_80000.pth"
    file.write_bytes(content)
    message = str(convert(file, "-o", tmp_path / "model").exception)
    assert str(file) in message and kind in message
    assert "weights_only" not in message


def test_a_checkpoint_that_is_cut_off(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(64)}, file)
    file.write_bytes(file.read_bytes()[:-8])
    assert "damaged or cut off" in str(convert(file, "-o", tmp_path / "model").exception)
    renamed = file.rename(tmp_path / "model.ckpt")
    assert "under its own ending" in str(convert(renamed, "-o", tmp_path / "model").exception)


def test_models_of_other_architectures_have_no_checkpoint(tmp_path):
    config = SegformerConfig(hidden_sizes=[8] * 4, depths=[1] * 4, decoder_hidden_size=8)
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "model")
    refused = convert(tmp_path / "model", "-o", tmp_path / "model.pth")
    assert "SegformerForSemanticSegmentation" in str(refused.exception)
    assert not (tmp_path / "model.pth").exists()
