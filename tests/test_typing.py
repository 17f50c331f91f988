# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The types of the public API, as a type checker sees them in somebody's program."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / "tests" / "helpers" / "typed_program.py"
# Of this package, what it says to others counts here, not what it does inside.
OPTIONS = ("--follow-imports=silent", "--config-file", str(ROOT / "pyproject.toml"), "--disallow-untyped-calls")


def check(program: Path, cache: Path) -> str:
    command = [sys.executable, "-m", "mypy", *OPTIONS, "--cache-dir", str(cache), str(program)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900).stdout


@pytest.mark.long
def test_a_typed_program(tmp_path):
    assert check(PROGRAM, tmp_path / "cache").startswith("Success")
    wrong = tmp_path / "wrong.py"
    text = PROGRAM.read_text().replace('engine="onnxruntime"', 'engine="onnxruntimes"')
    wrong.write_text(text.replace("segmentation.area_shares", "segmentation.area_share"))
    answer = check(wrong, tmp_path / "cache")
    assert "incompatible type \"Literal['onnxruntimes']\"" in answer
    assert '"Segmentation" has no attribute "area_share"' in answer
