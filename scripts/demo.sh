#!/usr/bin/env bash
# Segment a photo with the model that comes with the package: bash scripts/demo.sh [photo.jpg]
set -euo pipefail
photo="${1:+$(realpath "$1")}"
cd "$(dirname "$0")/.."
bash scripts/setup.sh train
exec .venv/bin/python scripts/demo.py ${photo:+"$photo"}
