# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Run the tests on the built wheel, in an environment of its own of the Python that runs this.

python scripts/test_compatibility.py [pytest's own options]           with the newest releases
python scripts/test_compatibility.py --oldest [pytest's own options]  with the oldest ones that pyproject.toml allows,
                                                                        and without torchvision
"""

import argparse
import json
import platform
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from xml.etree import ElementTree

_ROOT = Path(__file__).parents[1]
_FOLDER = _ROOT / "build" / "compatibility"
_PYTHON = _FOLDER / "venv" / "bin" / "python"
_PIP = (_PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet")
_EVIDENCE = _ROOT / "tests" / "reliability" / "evidence" / "compatibility.json"
# PyTorch's own packages: what it needs depends on its build, so that pip chooses them.
_OF_TORCH = re.compile(r"torch==|triton|nvidia|cuda")
# Training needs torchvision, an extra.
_IMPORT_ALL = """
import importlib, pkgutil
import cgrseg_hf
count = 0
for module in pkgutil.walk_packages(cgrseg_hf.__path__, "cgrseg_hf."):
    if not module.name.endswith(".__main__"):
        try:
            importlib.import_module(module.name)
            count += 1
        except ModuleNotFoundError as error:
            if error.name != "torchvision":
                raise
print(count)
"""
_RELEASES = """
import importlib.metadata
print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "numpy")))
"""
_KEEP = "import json, sys; from evidence import Evidence; Evidence(**json.load(sys.stdin)).save()"


def main() -> None:
    """Make the environment, run the tests there, and keep what came of the whole suite as evidence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oldest", action="store_true", help="the oldest releases in place of the newest")
    arguments, of_pytest = parser.parse_known_args()
    started = time.monotonic()
    make_environment(arguments.oldest)
    imported = run(_PYTHON, "-c", _IMPORT_ALL, cwd=_FOLDER, capture_output=True, text=True).stdout.strip()
    print(f"{imported} modules were imported from the wheel.")
    results = _FOLDER / "results.xml"
    # The program, from that folder: with python -m pytest, or from the checkout, the checkout's package is imported.
    pytest = (_PYTHON.with_name("pytest"), "-c", _ROOT / "pyproject.toml", "--rootdir", _ROOT, _ROOT / "tests")
    processes = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")
    ended = subprocess.run([*pytest, *processes, f"--junitxml={results}", *of_pytest], cwd=_FOLDER)
    if not of_pytest and ended.returncode in (0, 1):  # others mean that it broke off
        keep_evidence(arguments.oldest, imported, results, time.monotonic() - started)
    sys.exit(ended.returncode)


def make_environment(oldest: bool) -> None:
    """Install the wheel with what its tests need."""
    shutil.rmtree(_FOLDER, ignore_errors=True)
    venv.create(_FOLDER / "venv", with_pip=True)
    run(*_PIP, "wheel", "--no-deps", "--wheel-dir", _FOLDER, _ROOT)
    (wheel,) = _FOLDER.glob("*.whl")
    if not oldest:
        run(*_PIP, "install", f"{wheel}[test]")
        return
    run(*_PIP, "install", "uv")
    uv = (_PYTHON.with_name("uv"), "pip", "compile", "--quiet", "--python", _PYTHON, "--resolution", "lowest-direct")
    what = ("pyproject.toml", "--extra", "test", "--no-emit-package", "torchvision", "--no-emit-package", "timm")
    listed = run(*uv, *what, "--no-annotate", "--no-header", capture_output=True, text=True)
    lines = listed.stdout.splitlines()
    (torch,) = (line for line in lines if line.startswith("torch=="))
    run(*_PIP, "install", torch)
    rest = _FOLDER / "rest.txt"
    rest.write_text("\n".join(line for line in lines if not _OF_TORCH.match(line)) + "\n", encoding="utf-8")
    run(*_PIP, "install", "--no-deps", "-r", rest, wheel)


def keep_evidence(oldest: bool, imported: str, results: Path, seconds: float) -> None:
    """Count what passed, beside what earlier runs have kept of other environments."""
    suite = ElementTree.parse(results).getroot().find("testsuite")  # noqa: S314 (pytest has just written it)
    tests, failures, errors, skipped = (int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped"))
    passed, failed = tests - failures - errors - skipped, failures + errors
    releases = run(_PYTHON, "-c", _RELEASES, capture_output=True, text=True).stdout.strip()
    release_set, minutes = "oldest" if oldest else "newest", round(seconds / 60)
    row = [platform.python_version(), release_set, releases, int(imported), passed, skipped, failed, minutes]
    kept = json.loads(_EVIDENCE.read_text(encoding="utf-8"))["rows"] if _EVIDENCE.is_file() else []
    rows = [*(one for one in kept if one[:2] != row[:2]), row]
    rows.sort(key=lambda one: tuple(map(int, one[0].split("."))))
    evidence = {
        "section": "compatibility",
        "title": "Pythons and releases",
        "command": "python scripts/test_compatibility.py",
        "summary": (
            "The default suite on the built wheel, of which each module was imported first, with the newest releases "
            "that pip finds, or with the oldest that `pyproject.toml` allows (`--oldest`). The oldest are without "
            "torchvision and timm: what needs these is skipped there. Each line is a run with another Python."
        ),
        "columns": ("Python", "releases", "of these", "modules", "passed", "skipped", "failed", "minutes"),
        "rows": rows,
        "failures": sum(one[-2] for one in rows),
        "seconds": 60 * sum(one[-1] for one in rows),
    }
    run(_PYTHON, "-c", _KEEP, cwd=_ROOT / "tests" / "reliability", input=json.dumps(evidence), text=True)


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """Run a command that has to succeed."""
    return subprocess.run(command, check=True, **{"cwd": _ROOT, **options})


if __name__ == "__main__":
    main()
