# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the surroundings of a process say: its environment, the commit of its code, the machine."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from cgrseg_hf import provenance
from cgrseg_hf.environment import environment_variable
from cgrseg_hf.provenance import digest_weights


@pytest.mark.parametrize("before", [None, "", "before"])
def test_an_environment_variable_is_what_it_was(monkeypatch, before: str | None):
    monkeypatch.delenv("CGRSEG_TRIED", raising=False)
    if before is not None:
        monkeypatch.setenv("CGRSEG_TRIED", before)
    with pytest.raises(ZeroDivisionError), environment_variable("CGRSEG_TRIED", "within"):
        assert os.environ["CGRSEG_TRIED"] == "within"
        raise ZeroDivisionError
    assert os.environ.get("CGRSEG_TRIED") == before


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_the_code(monkeypatch, tmp_path):
    code = tmp_path / "cgrseg_hf" / "provenance.py"
    code.parent.mkdir()
    code.touch()
    monkeypatch.setattr(provenance, "__file__", str(code))
    assert provenance.find_git_commit() is None  # an installed package

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    commit = git("rev-parse", "HEAD")
    assert provenance.find_git_commit() == commit
    code.write_text("changed")
    assert provenance.find_git_commit() == f"{commit}-dirty"
    Path(tmp_path, ".git", "HEAD").write_text("damaged")
    assert provenance.find_git_commit() is None


def test_weights_are_those_that_are_loaded(decided_model, tmp_path):
    decided_model.save_pretrained(tmp_path, max_shard_size="100KB")
    parts = sorted(file.name for file in tmp_path.glob("*.safetensors"))
    assert len(parts) > 1 and list(digest_weights(tmp_path)) == parts
    (tmp_path / "model.fp16.safetensors").write_bytes(b"of another type")
    assert list(digest_weights(tmp_path)) == parts
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert digest_weights(tmp_path) == {"model.safetensors": hashlib.sha256(b"").hexdigest()}
