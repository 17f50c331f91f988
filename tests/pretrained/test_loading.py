# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What is fetched, against the checksums of the Hub."""

import base64
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

from cgrseg_hf.pretrained.loading import checked_downloads, load_model


@pytest.fixture
def repo(hub, tmp_path, monkeypatch) -> str:
    """A repository of a file, an empty cache, and the Hub that is asked."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix("https://huggingface.co")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub.store.create(repo_id := f"user/{tmp_path.name}")
    file = {"path": "model.safetensors", "content": base64.b64encode(b"weights").decode()}
    hub.store.commit(repo_id, "main", [{"key": "file", "value": file}])
    return repo_id


def fetch(repo_id: str, content: bytes) -> Path:
    """Fetch the file, of which this content arrives."""
    file = Path(hf_hub_download(repo_id, "model.safetensors", cache_dir=constants.HF_HUB_CACHE))
    file.resolve().write_bytes(content)
    return file


@pytest.mark.parametrize("error", [None, RuntimeError("header")])
def test_damaged_files_are_refused_and_fetched_again(repo, error):
    with pytest.raises(ValueError, match=f"sent of {repo} is damaged"), checked_downloads(repo):
        file = fetch(repo, b"weighty")
        if error is not None:
            raise error
    assert not file.exists() and not file.resolve().exists()
    with checked_downloads(repo):
        file = fetch(repo, b"weights")
    assert file.read_bytes() == b"weights"


def test_what_was_fetched_before_is_not_compared(repo):
    file = fetch(repo, b"weighty")
    with checked_downloads(repo):
        pass
    assert file.exists()


def test_a_hub_that_tells_no_checksums(repo, monkeypatch, caplog):
    with checked_downloads(repo):
        file = fetch(repo, b"weights")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert file.exists() and "could not be compared" in caplog.text


def test_a_folder_is_no_download(repo, decided_folder, tmp_path, monkeypatch):
    """Not even one that has the name of a model on the Hub."""
    (tmp_path / "user").mkdir()
    (tmp_path / repo).symlink_to(decided_folder)
    monkeypatch.chdir(tmp_path)
    assert load_model(repo).config.num_labels == 5
    assert not Path(constants.HF_HUB_CACHE).exists()
