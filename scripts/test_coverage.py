# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Run the default suite and see which lines of the package it runs, in other processes too.

pip install pytest-cov
python scripts/test_coverage.py
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

_ROOT = Path(__file__).parents[1]
# Servers end by a signal. What runs in Ray's actors, or with an environment of its own, is not seen.
_SETTINGS = """[run]
source = cgrseg_hf
branch = true
parallel = true
sigterm = true
patch = subprocess
data_file = {folder}/data
"""
# Why the default suite does not run, or is not seen to run, lines of a file.
_REASONS: dict[str, str] = {}


def main() -> None:
    """Run the suite, list what it did not run, and keep the shares as evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="keep coverage's report here, or take the one that is here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cgrseg-coverage-") as folder:
        report = arguments.report or Path(folder, "report.json")
        if not report.is_file():
            run_suite(Path(folder), report)
        keep_evidence(json.loads(report.read_text(encoding="utf-8")))


def run_suite(folder: Path, report: Path) -> None:
    """Run the default suite, which has to pass, and write coverage's report, with the seconds that it took."""
    settings, started = folder / "settings", time.monotonic()
    settings.write_text(_SETTINGS.format(folder=folder), encoding="utf-8")
    processes = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")
    outputs = ("--cov-report=term-missing:skip-covered", f"--cov-report=json:{report.resolve()}")
    command = (sys.executable, "-m", "pytest", *processes, "--cov", f"--cov-config={settings}", *outputs)
    subprocess.run(command, cwd=_ROOT, check=True)
    content = json.loads(report.read_text(encoding="utf-8"))
    report.write_text(json.dumps({**content, "seconds": time.monotonic() - started}), encoding="utf-8")


def keep_evidence(report: dict) -> None:
    """Keep for each part of the package what ran, and why not the rest."""
    sys.path.append(str(_ROOT / "tests" / "reliability"))
    from evidence import Evidence

    figures: dict[str, Counter] = {}
    reasons: dict[str, Counter] = {}
    for file, found in report["files"].items():
        part, summary = Path(file).parent.as_posix(), found["summary"]
        counts = {name: value for name, value in summary.items() if isinstance(value, int)}
        figures.setdefault(part, Counter()).update(counts)
        if missing := summary["missing_lines"]:
            reasons.setdefault(part, Counter())[_REASONS.get(file, "**unexplained**")] += missing
    rows = []
    for part, sums in sorted(figures.items()):
        ran = (sums["covered_lines"] + sums["covered_branches"]) / (sums["num_statements"] + sums["num_branches"])
        why = "; ".join(f"{lines} × {reason}" for reason, lines in reasons.get(part, Counter()).most_common())
        rows.append([f"`{part}`", sums["num_statements"], f"{ran:.1%}", why])
    unexplained = sum(counts["**unexplained**"] for counts in reasons.values())
    Evidence(
        section="coverage",
        title="Lines that no test of the default suite runs",
        command="python scripts/test_coverage.py",
        summary=(
            f"Of lines and branches, the default suite runs {report['totals']['percent_covered']:.1f} %. What it does "
            "not run was looked at, file by file."
        ),
        columns=("Part", "Lines", "Lines and branches that ran", "Lines that did not, and why"),
        rows=rows,
        failures=unexplained,
        seconds=report["seconds"],
    ).save()


if __name__ == "__main__":
    main()
