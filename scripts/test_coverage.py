# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Run the default suite and see which lines of the package it runs, in other processes too.

pip install pytest-cov
python scripts/test_coverage.py
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

_ROOT = Path(__file__).parents[1]
# Servers end by a signal; what runs in Ray's actors, or with an environment of its own, is not seen.
_SETTINGS = """[run]
source = cgrseg_hf
branch = true
parallel = true
sigterm = true
patch = subprocess
data_file = {folder}/data
"""


def main() -> None:
    """Run the suite, list what it did not run, and keep the shares as evidence."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cgrseg-coverage-") as folder:
        settings, report = Path(folder, "settings"), Path(folder, "report.json")
        settings.write_text(_SETTINGS.format(folder=folder), encoding="utf-8")
        processes = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")
        outputs = ("--cov-report=term-missing:skip-covered", f"--cov-report=json:{report}")
        command = [sys.executable, "-m", "pytest", *processes, "--cov", f"--cov-config={settings}", *outputs]
        ended = subprocess.run([*command, *sys.argv[1:]], cwd=_ROOT)
        if ended.returncode == 0 and len(sys.argv) == 1:
            keep_evidence(json.loads(report.read_text(encoding="utf-8")), time.monotonic() - started)
    sys.exit(ended.returncode)


def keep_evidence(report: dict, seconds: float) -> None:
    """Keep the share of lines and branches that ran, part by part of the package."""
    sys.path.append(str(_ROOT / "tests" / "reliability"))
    from evidence import Evidence

    parts: dict[str, list[dict]] = defaultdict(list)
    for file, found in report["files"].items():
        parts[f"`{Path(file).parent.as_posix()}`"].append(found["summary"])
    rows = []
    for part, files in sorted(parts.items()):
        lines, branches = count(files, "num_statements"), count(files, "num_branches")
        missing = count(files, "missing_lines")
        ran = lines - missing + count(files, "covered_branches")
        rows.append([part, lines, missing, f"{ran / (lines + branches):.1%}"])
    Evidence(
        section="coverage",
        title="Lines that no test runs",
        command="python scripts/test_coverage.py",
        summary=(
            f"The default suite runs {report['totals']['percent_covered']:.1f} % of the package's lines and branches. "
            "Each line that it does not run was looked at: they need a GPU or another operating system, are compiled "
            "by PyTorch or traced for an export before they run, run in processes that are not seen (Ray's actors, the "
            "endpoint's handler, the check of a model before a push), or are run by the long tests (8 bits, "
            "exports of every kind, a cluster)."
        ),
        columns=("part", "lines", "not run", "lines and branches that ran"),
        rows=rows,
        failures=0,
        seconds=seconds,
    ).save()


def count(files: list[dict], name: str) -> int:
    """The sum of a figure over files."""
    return sum(one[name] for one in files)


if __name__ == "__main__":
    main()
