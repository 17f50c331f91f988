# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Checks that need environments of their own: several Pythons and releases, coverage, the site, mutants, reliability.

pip install nox
nox --list
nox -s tests-3.12 -- -k metric    # pytest's own arguments after --
nox -R -s tests-3.12              # again, in the environment that exists
"""

import re
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml("pyproject.toml")
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
IN_PARALLEL = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal")
# Their builds decide what else they need, so pip installs PyTorch by itself.
OF_TORCH = re.compile(r"torch==|triton|nvidia|cuda")

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "tests-3.12"]
nox.options.error_on_missing_interpreters = True


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style."""
    session.install(*(requirement for requirement in EXTRAS["test"] if requirement.startswith("ruff")))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """Run the default suite on the built wheel, with the newest releases."""
    session.install(f"{build_wheel(session)}[test,train]")
    run_tests_of_wheel(session)


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """Run the default suite on the built wheel, with the oldest releases allowed, without torchvision and timm."""
    session.install("uv")
    oldest = ("--resolution", "lowest-direct", "--extra", "test")
    left_out = ("--no-emit-package", "torchvision", "--no-emit-package", "timm")
    options = ("--quiet", "--no-annotate", "--no-header")
    listed = session.run("uv", "pip", "compile", "pyproject.toml", *oldest, *left_out, *options, silent=True)
    lines = (listed or "").splitlines()
    requirements = Path(session.create_tmp()) / "requirements.txt"
    requirements.write_text("\n".join(line for line in lines if not OF_TORCH.match(line)) + "\n", encoding="utf-8")
    session.install(*(line for line in lines if line.startswith("torch==")))
    session.install("--no-deps", "-r", str(requirements), build_wheel(session))
    run_tests_of_wheel(session)


@nox.session(python="3.11")
def coverage(session: nox.Session) -> None:
    """Run the default suite, and show which lines and branches it does not run."""
    session.install("--editable", ".[test,train]", "pytest-cov>=6.0")
    session.run("pytest", *IN_PARALLEL, "--cov", "--cov-report=term-missing:skip-covered", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site of README, guides and API."""
    session.install(*EXTRAS["docs"])
    session.run("mkdocs", "build", "--strict", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(python="3.11")
def mutants(session: nox.Session) -> None:
    """Change metric, post-processing, labels and geometry in one place at a time; the tests have to notice."""
    session.install("--editable", ".[test,train]", "mutmut>=3.3")
    session.run("mutmut", "run", *session.posargs, env={"PYTHONPATH": ".", "OMP_NUM_THREADS": "1"})
    session.run("mutmut", "results")


@nox.session(python="3.11")
def reliability(session: nox.Session) -> None:
    """Try damaged input, faults, load and hostile files: an hour, on one process. tests/RELIABILITY.md has more."""
    session.install("--editable", ".[test,train]")
    chosen = session.posargs or ["tests/reliability"]
    session.run("pytest", "-s", "-m", "reliability or not reliability", *chosen)


def build_wheel(session: nox.Session) -> str:
    """Build the wheel of this checkout."""
    folder = Path(session.create_tmp()) / "wheel"
    for earlier in folder.glob("*.whl"):
        earlier.unlink()
    session.run("python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), ".")
    (wheel,) = folder.glob("*.whl")
    return str(wheel)


def run_tests_of_wheel(session: nox.Session) -> None:
    """Run the tests from another folder, so that they import what was installed and not the checkout."""
    session.chdir(session.create_tmp())
    where = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(ROOT / "tests"))
    session.run("pytest", *where, *IN_PARALLEL, *session.posargs)
