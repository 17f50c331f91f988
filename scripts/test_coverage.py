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
# What runs in Ray's actors, in the page's process, or with an environment of its own, is not seen all the same.
_SETTINGS = """[run]
source = cgrseg_hf
branch = true
parallel = true
sigterm = true
patch = subprocess
data_file = {folder}/data
"""
# Why the default suite does not run, or is not seen to run, lines of a file.
_LONG, _UNSEEN, _GPU = "left to the long tests", "in a process that is not seen", "needs a GPU"
_SYSTEM, _MIXED = "another operating system", "needs a GPU, is compiled, or left to the long tests"
_RARE = "what another process or the code of others may do"
_REASONS = {
    **{
        f"cgrseg_hf/benchmark/{name}.py": _MIXED
        for name in ("contenders", "memory", "report", "rounds", "run", "sources")
    },
    **{f"cgrseg_hf/commands/{name}.py": _LONG for name in ("export", "predict", "push")},
    **{f"cgrseg_hf/export/{name}.py": _LONG for name in ("exporting", "onnx_file", "openvino_file", "parts")},
    **{f"cgrseg_hf/training/{name}.py": _MIXED for name in ("checkpoints", "run")},
    **{f"cgrseg_hf/training/{name}.py": _UNSEEN for name in ("faults", "loop")},
    "cgrseg_hf/cluster/runner.py": _LONG,
    "cgrseg_hf/commands/demo.py": _UNSEEN,
    "cgrseg_hf/data/tables.py": _RARE,
    "cgrseg_hf/data/workers.py": _UNSEEN,
    "cgrseg_hf/demo/page.py": _UNSEEN,
    "cgrseg_hf/demo/server.py": _UNSEEN,
    "cgrseg_hf/evaluation/evaluator.py": _UNSEEN,
    "cgrseg_hf/engines/exported_engine.py": _MIXED,
    "cgrseg_hf/hub/handler.py": _UNSEEN,
    "cgrseg_hf/hub/loading_check.py": _UNSEEN,
    "cgrseg_hf/hub/pushing.py": _LONG,
    "cgrseg_hf/inference/engines.py": _MIXED,
    "cgrseg_hf/engines/memory.py": _SYSTEM,
    "cgrseg_hf/inference/image_rows.py": _RARE,
    "cgrseg_hf/pretrained/loading.py": _RARE,
    "cgrseg_hf/pretrained/locating.py": _RARE,
    "cgrseg_hf/model/modeling_cgrseg.py": _GPU,
    "cgrseg_hf/model/modeling_efficientformerv2.py": _MIXED,
    "cgrseg_hf/model/optimized_cgrseg.py": _MIXED,
    "cgrseg_hf/utils/processes.py": _GPU,
    "cgrseg_hf/utils/provenance.py": _SYSTEM,
    "cgrseg_hf/training/models.py": _RARE,
    "cgrseg_hf/visualization/attention.py": _RARE,
}


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
