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
from cgrseg_hf.conversion.files import read_checkpoint

# The released code divides the loss by all pixels, so that is what a converted checkpoint has.
SETTINGS = {"num_labels": 11, "loss_normalization": "all"}


@pytest.fixture
def model(tiny_config) -> CGRSegForSemanticSegmentation:
    torch.manual_seed(0)
    return CGRSegForSemanticSegmentation(tiny_config(**SETTINGS)).eval()


@pytest.fixture
def checkpoint(model, tmp_path):
    """A file as mmsegmentation writes it."""
    file = tmp_path / "iter_80000.pth"
    torch.save({"meta": {"epoch": 1}, "state_dict": to_official(model)}, file)
    return file


def convert(*arguments):
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


def make_folder(path):
    path.mkdir()
    return path


def test_a_checkpoint_becomes_a_model_with_the_names_of_a_data_set(model, checkpoint, tmp_path):
    folder = tmp_path / "model"
    result = convert(checkpoint, "-o", folder, "--dataset", "camvid")
    assert result.exit_code == 0, result.output
    assert str(folder) in result.output
    loaded = AutoModelForSemanticSegmentation.from_pretrained(folder)
    assert loaded.config.id2label[0] == "sky"
    assert loaded.config.label2id["sky"] == 0
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


def test_names_from_a_file(checkpoint, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({str(index): f"thing {index}" for index in range(11)}))
    assert convert(checkpoint, "-o", tmp_path / "model", "--class-names", names).exit_code == 0
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "model")
    assert loaded.config.id2label[10] == "thing 10"


def test_what_does_not_fit_is_said(model, checkpoint, tmp_path):
    wrong = convert(checkpoint, "-o", tmp_path / "a", "--dataset", "ade20k")
    assert "11 classes" in str(wrong.exception)
    assert "150" in str(wrong.exception)
    assert not (tmp_path / "a").exists()
    assert "There is no checkpoint" in convert(tmp_path / "none.pth").output
    both = convert(checkpoint, "--dataset", "camvid", "--class-names", "names.txt")
    assert "give one of them" in both.output
    model.save_pretrained(tmp_path / "model")
    file = tmp_path / "file"
    file.touch()
    assert "is a file: name a folder" in convert(checkpoint, "-o", file, "--overwrite").output
    assert "is a folder: name a file" in convert(tmp_path / "model", "-o", make_folder(tmp_path / "c.pth")).output
    assert "must end with .pth" in convert(tmp_path / "model", "-o", tmp_path / "b").output
    assert "--dataset: these are for checkpoint files" in convert(tmp_path / "model", "--dataset", "camvid").output


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (b"  <!DOCTYPE html><title>Sign in</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG picture"),
        (b"PK\x03\x04" + bytes(100), "a zip archive that torch.save did not write"),
        (b"learning_rate: 0.1\n", "text"),
        (bytes(range(256)), "damaged"),
    ],
)
def test_a_file_that_is_no_checkpoint(tmp_path, content, kind):
    file = tmp_path / "iter_80000.pth"
    file.write_bytes(content)
    message = str(convert(file, "-o", tmp_path / "model").exception)
    assert f"{file} could not be read as a checkpoint: it seems to be {kind}" in message
    assert "Give a file that torch.save wrote" in message and "weights_only" not in message


def test_a_checkpoint_that_is_cut_off(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(64)}, file)
    file.write_bytes(file.read_bytes()[:-8])
    message = str(convert(file, "-o", tmp_path / "model").exception)
    assert "of safetensors, and damaged or cut off (" in message and "incomplete" in message.lower()
    assert "ending" not in message
    renamed = file.rename(tmp_path / "model.ckpt")
    assert "under its own ending" in str(convert(renamed, "-o", tmp_path / "model").exception)
    monkeypatch.setattr("cgrseg_hf.conversion.files.load_file", lambda path: bytearray(2**62))
    with pytest.raises(MemoryError):
        read_checkpoint(renamed.rename(file))


def test_models_of_other_architectures_have_no_checkpoint(tmp_path):
    config = SegformerConfig(hidden_sizes=[8] * 4, depths=[1] * 4, decoder_hidden_size=8)
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "model")
    refused = convert(tmp_path / "model", "-o", tmp_path / "model.pth")
    assert "model is a SegformerForSemanticSegmentation: the authors' code knows CGRSeg" in str(refused.exception)
    assert not (tmp_path / "model.pth").exists()


def test_what_is_there_stays(checkpoint, tmp_path):
    folder = make_folder(tmp_path / "model")
    (folder / "notes.txt").write_text("mine")
    refused = convert(checkpoint, "-o", folder, "--dataset", "camvid")
    assert refused.exit_code == 2
    assert "--overwrite" in refused.output
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    assert convert(checkpoint, "-o", folder, "--dataset", "camvid", "--overwrite").exit_code == 0
