# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Change the code of metric, post-processing, padding and labels in one place at a time, and see that a test notices.

pip install mutmut
python scripts/test_mutants.py
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

_ROOT = Path(__file__).parents[1]

# Mutants as mutmut names them, by module.
_MUTANTS = {
    "cgrseg_hf/evaluation/metric.py": ["*"],
    "cgrseg_hf/model/post_processing_cgrseg.py": ["*"],
    "cgrseg_hf/data/label_mapping.py": ["*"],
    "cgrseg_hf/model/image_processing_cgrseg.py": [
        *("x_get_padded_size", "x_pad_to_size", "x_label_map_to_tensor", "x_reduce_labels", "x_check_labels"),
        "x_resize_label_map",
    ],
}
_TESTS = [
    "tests/evaluation/test_metric.py",
    "tests/data/test_label_mapping.py",
    "tests/test_post_processing_cgrseg.py",
    "tests/test_image_processing_cgrseg.py",
]
_SETTINGS = f"""
[tool.mutmut]
source_paths = ["cgrseg_hf"]
only_mutate = {json.dumps(list(_MUTANTS))}
also_copy = ["README.md", "scripts", "docs", "model_cards"]
pytest_add_cli_args = ["-p", "tests.reliability.mutated_code"]
pytest_add_cli_args_test_selection = {json.dumps(_TESTS)}
"""
# Why no test can, or need, notice a change, by what the changed line looks like; the first that fits counts.
_REASONS = {
    r"device=|device\)|\.to\(None\)|arange\(target, \)|logits\.device": "shows on a GPU alone",
    r"description=|citation|features=|label_map = |cache folder|seed=": "what evaluate shows of a metric, unused here",
    r"out=lead|limit|parts = |members\.split|_LONGEST_DESCRIPTION:": "when or how work is divided: time and memory",
    r"np\.full\(max|raw >= last|torch\.int32 if|step <": "room or copies that are not needed",
    r"astype\(None\)|float64\(|size\), None|nan_to_num_\(None\)|_is_empty = None$": "the same by a library's defaults",
    r"and False else (np|torch)\.": "the other branch does the same, more slowly",
    r"default=[+-]\d|num_labels - 1, ignore|corners\[1\]|minlength|range\(count\)": "what differs is decided elsewhere",
    r"first == 0|length \+ 3|range\(4\)|target, 2": "borders of cells, all of whose pixels are looked at anyway",
    r"""["']XX|XX["']|raise ValueError\(|[A-Z]{2,}[A-Z ]{10}|^\+ f?["']""": "the words of an error",
    r"""^- f?["'](.*\n- )*.*["']\n\+ None$""": "the words of an error",
}


def main() -> None:
    """Run mutmut on a copy of the checkout, and keep what came of it as evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="mutants tried at a time")
    parser.add_argument("--folder", type=Path, help="work here, and try again what survived an earlier run here")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cgrseg-mutants-") as temporary:
        folder = arguments.folder or Path(temporary)
        copy_checkout(folder)
        names = [f"{_module(file)}.{name}__mutmut_*" for file, found in _MUTANTS.items() for name in found]
        names = find_survivors(folder) or names
        environment = {**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mutmut", "run", f"--max-children={arguments.processes}", *names]
        subprocess.run(command, cwd=folder, env=environment, check=True)
        keep_evidence(folder, time.monotonic() - started)


def copy_checkout(folder: Path) -> None:
    """The files of the checkout that git knows, with mutmut's settings."""
    listed = subprocess.run(["git", "ls-files"], cwd=_ROOT, check=True, capture_output=True, text=True)  # noqa: S607
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(_ROOT / name, folder / name)
    with (folder / "pyproject.toml").open("a") as settings:
        settings.write(_SETTINGS)


def find_survivors(folder: Path) -> list[str]:
    """Names of the mutants that an earlier run in this folder did not notice."""
    return [name for file in _MUTANTS for name, code in read_exit_codes(folder, file).items() if code == 0]


def read_exit_codes(folder: Path, file: str) -> dict[str, int | None]:
    """The tests' exit codes by mutant; none before the first run, and `None` for mutants that were not tried."""
    results = folder / "mutants" / f"{file}.meta"
    return json.loads(results.read_text(encoding="utf-8"))["exit_code_by_key"] if results.is_file() else {}


def keep_evidence(folder: Path, seconds: float) -> None:
    """Count what was noticed, and list by reason what was not."""
    sys.path.append(str(_ROOT / "tests" / "reliability"))
    os.chdir(folder)  # where mutmut looks for its settings as soon as it is imported
    from evidence import Evidence
    from mutmut.mutation.diff_apply import get_diff_for_mutant
    from mutmut.stats import status_by_exit_code

    rows, unexplained = [], []
    for file in _MUTANTS:
        codes = read_exit_codes(folder, file)
        outcomes = Counter(status_by_exit_code[code] for code in codes.values() if code is not None)
        reasons: Counter[str] = Counter()
        for name in (name for name, code in codes.items() if code == 0):
            change = [line for line in get_diff_for_mutant(name, path=file).splitlines() if line[:1] in "+-"][2:]
            reason = find_reason(change)
            reasons[reason or "**unexplained**"] += 1
            if reason is None:
                unexplained.append(f"{file}: {'; '.join(' '.join(line.split()) for line in change)}")
        explained = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common())
        noticed = sum(outcomes.values()) - outcomes["survived"] - outcomes["no tests"]
        rows.append([f"`{file}`", sum(outcomes.values()), noticed, outcomes["no tests"], explained])
    print("\n".join(unexplained))
    total, noticed = (sum(row[index] for row in rows) for index in (1, 2))
    Evidence(
        section="mutations",
        title="Mutants of metric, post-processing, padding and labels",
        command="python scripts/test_mutants.py",
        summary=(
            f"mutmut changed one operator, number, argument or text at a time, {total} times, and ran the tests of "
            f"these modules, which noticed {noticed} of the changes. Of padding and labels in the image processor its "
            "six functions were changed. What was not noticed was looked at; reasons are beside the numbers. Functions "
            "that only other tests reach, such as reading from several processes, count as not reached."
        ),
        columns=("Module", "Changes", "Noticed", "Not reached by these tests", "Not noticed, and why"),
        rows=rows,
        failures=len(unexplained),
        seconds=seconds,
    ).save()


def find_reason(change: list[str]) -> str | None:
    """Why a change, lines with a sign before them, goes unnoticed; `None` if nobody has said."""
    text = "\n".join(" ".join(line.split()) for line in change)
    return next((reason for pattern, reason in _REASONS.items() if re.search(pattern, text, re.MULTILINE)), None)


def _module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


if __name__ == "__main__":
    main()
