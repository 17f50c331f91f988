# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""RELIABILITY.md says what the runs have kept, and nothing else."""

import subprocess
import sys
from pathlib import Path

from evidence import load_evidence

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_its_script_writes(tmp_path):
    file = tmp_path / "RELIABILITY.md"
    command = [sys.executable, str(ROOT / "scripts" / "write_reliability.py"), "--output", str(file)]
    subprocess.run(command, check=True, timeout=120)
    assert file.read_text(encoding="utf-8") == (ROOT / "tests" / "RELIABILITY.md").read_text(encoding="utf-8")


def test_no_run_that_was_kept_has_failures():
    assert all(one.failures == 0 for one in load_evidence())
