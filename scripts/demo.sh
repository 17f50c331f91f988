#!/usr/bin/env bash
# Train a small CGRSeg on a dozen photos and segment one of them: bash scripts/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh train
exec .venv/bin/python scripts/demo.py "$@"
