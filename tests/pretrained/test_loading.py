# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What is fetched, against the checksums by which the Hub's cache names it."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants

from cgrseg_hf.pretrained.loading import checked_downloads, load_model

RIGHT = hashlib.sha256(b"weights").hexdigest()


@pytest.fixture
def blobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the cache keeps the files of user/model."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "models--user--model" / "blobs"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "is_kept"),
    [(RIGHT, b"weights", True), (RIGHT, b"weighty", False), ("0" * 40, b"{}", True), ("a-tag-of-a-mirror", b"", True)],
)
def test_new_files_are_compared(name, content, is_kept, blobs: Path):
    if is_kept:
        with checked_downloads("user/model"):
            (blobs / name).write_bytes(content)
    else:
        with pytest.raises(ValueError, match="sent of user/model is damaged"), checked_downloads("user/model"):
            (blobs / name).write_bytes(content)
    assert (blobs / name).exists() == is_kept


def test_what_was_there_is_not_read_again(blobs: Path):
    (blobs / RIGHT).write_bytes(b"weighty")
    with checked_downloads("user/model"):
        pass
    assert (blobs / RIGHT).exists()


def test_files_of_a_shared_store(blobs: Path, tmp_path: Path):
    store = tmp_path / "store"
    with pytest.raises(ValueError, match="damaged"), checked_downloads("user/model"):
        store.write_bytes(b"weighty")
        (blobs / RIGHT).symlink_to(store)
    assert not store.exists() and list(blobs.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "content", "raised"),
    [
        (RuntimeError("header"), b"weighty", ValueError),
        (RuntimeError("header"), b"weights", RuntimeError),
        (KeyboardInterrupt(), b"weighty", KeyboardInterrupt),
    ],
)
def test_loading_that_fails(error, content, raised, blobs: Path):
    with pytest.raises(raised), checked_downloads("user/model"):
        (blobs / RIGHT).write_bytes(content)
        raise error


def test_a_folder_is_no_download(blobs: Path, decided_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not even one that has the name of a model on the Hub."""
    (tmp_path / "user").mkdir()
    (tmp_path / "user" / "model").symlink_to(decided_folder)
    monkeypatch.chdir(tmp_path)
    assert load_model("user/model").config.num_labels == 5
    with pytest.raises(ValueError, match="damaged"), checked_downloads("user/model"):
        (blobs / RIGHT).write_bytes(b"weighty")
