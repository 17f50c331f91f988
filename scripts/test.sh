#!/usr/bin/env bash
# Check the style and run the tests: bash scripts/test.sh [pytest's own arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh test,train,docs
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
# As many processes as there are cores, since each test runs on one, but not more than memory allows.
exec .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal "$@"
