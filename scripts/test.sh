#!/usr/bin/env bash
# Check the style and run the tests: bash scripts/test.sh [pytest's own arguments]
#   bash scripts/test.sh -m quick    model, image processor, post-processing and metric, in a minute
#   bash scripts/test.sh -m long     what takes minutes
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE  # without bytecode, each process that a test starts would compile PyTorch's modules anew
bash scripts/setup.sh test,train,docs
.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
# As many processes as there are cores, since each test runs on one, but not more than memory allows.
exec .venv/bin/python -m pytest -n auto --maxprocesses 8 --dist worksteal "$@"
