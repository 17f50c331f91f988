# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the surroundings of a process say: its environment, the commit of its code, the machine."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from cgrseg_hf.utils import provenance
from cgrseg_hf.utils.provenance import digest_weights


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_of_the_code(monkeypatch, tmp_path):
    code = tmp_path / "cgrseg_hf" / "utils" / "provenance.py"
    code.parent.mkdir(parents=True)
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
