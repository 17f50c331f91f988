#!/usr/bin/env bash
# Try the package under damaged input, faults, load and hostile files, and write tests/RELIABILITY.md: takes an hour.
#   bash scripts/reliability.sh [pytest's own arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh test,train
.venv/bin/python -m pytest tests/reliability -m "reliability or not reliability" --keep-evidence "$@"
.venv/bin/python scripts/write_reliability.py
