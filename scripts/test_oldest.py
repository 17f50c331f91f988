# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Run the tests on the built wheel with the oldest releases that pyproject.toml allows, and without torchvision.

python scripts/test_oldest.py [pytest's own arguments]
"""

import json
import re
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path
from xml.etree import ElementTree

_ROOT = Path(__file__).parents[1]
_FOLDER = _ROOT / "build" / "oldest"
_PYTHON = _FOLDER / "venv" / "bin" / "python"
_LEFT_OUT = ("torchvision", "timm")
# PyTorch's own packages: what it needs depends on its build, so that pip chooses them.
_OF_TORCH = re.compile(r"torch==|triton|nvidia|cuda")
# From a folder of its own, where the checkout is not in the way. Training needs torchvision, an extra.
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
_KEEP = "import json, sys; from evidence import Evidence; Evidence(**json.load(sys.stdin)).save()"


def main() -> None:
    """Make the environment, run the tests there, and keep what came of the whole suite as evidence."""
    started = time.monotonic()
    releases = make_environment()
    imported = run(_PYTHON, "-c", _IMPORT_ALL, cwd=_FOLDER, capture_output=True, text=True).stdout.strip()
    print(f"{imported} modules were imported from the wheel.")
    arguments = sys.argv[1:]
    results = _FOLDER / "results.xml"
    processes = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")
    ended = subprocess.run([_PYTHON, "-m", "pytest", *processes, f"--junitxml={results}", *arguments], cwd=_ROOT)
    if not arguments:
        keep_evidence(releases, imported, results, time.monotonic() - started)
    sys.exit(ended.returncode)


def make_environment() -> dict[str, str]:
    """Install the wheel with the oldest releases; these by name."""
    shutil.rmtree(_FOLDER, ignore_errors=True)
    venv.create(_FOLDER / "venv", with_pip=True)
    pip = (_PYTHON, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "install", "uv")
    run(*pip, "wheel", "--no-deps", "--wheel-dir", _FOLDER, _ROOT)
    listing = _FOLDER / "oldest.txt"
    left_out = [word for name in _LEFT_OUT for word in ("--no-emit-package", name)]
    uv = (_PYTHON.with_name("uv"), "pip", "compile", "--quiet", "--resolution", "lowest-direct")
    run(*uv, "--extra", "test", "pyproject.toml", *left_out, "--no-annotate", "--no-header", "--output-file", listing)
    lines = listing.read_text(encoding="utf-8").splitlines()
    releases = dict(line.split("==", 1) for line in lines)
    run(*pip, "install", f"torch=={releases['torch']}")
    rest = _FOLDER / "rest.txt"
    rest.write_text("\n".join(line for line in lines if not _OF_TORCH.match(line)) + "\n", encoding="utf-8")
    run(*pip, "install", "--no-deps", "-r", rest, *_FOLDER.glob("*.whl"))
    return releases


def keep_evidence(releases: dict[str, str], imported: str, results: Path, seconds: float) -> None:
    """Count what passed, and list the releases that pyproject.toml names."""
    suite = ElementTree.parse(results).getroot().find("testsuite")  # noqa: S314 (pytest has just written it)
    counts = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failures, skipped = counts["failures"] + counts["errors"], counts["skipped"]
    named = re.findall(r'"([\w-]+)(?:\[\w+\])?>=', (_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = sorted({name.replace("_", "-") for name in named} & releases.keys())
    evidence = {
        "section": "compatibility",
        "title": "The oldest releases",
        "command": "python scripts/test_oldest.py",
        "summary": (
            "The default suite in an environment of the oldest releases that `pyproject.toml` allows, without "
            f"{' and '.join(_LEFT_OUT)}, on the built wheel, of which {imported} modules were imported one by one: "
            f"{counts['tests'] - failures - skipped} tests passed, {skipped} were skipped, "
            "most for want of these two. On the newest releases `bash scripts/test.sh` runs it."
        ),
        "columns": ("package", "release"),
        "rows": [[name, releases[name]] for name in names],
        "failures": failures,
        "seconds": seconds,
    }
    run(_PYTHON, "-c", _KEEP, cwd=_ROOT / "tests" / "reliability", input=json.dumps(evidence), text=True)


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """Run a command that has to succeed."""
    return subprocess.run(command, check=True, **{"cwd": _ROOT, **options})


if __name__ == "__main__":
    main()
