#!/usr/bin/env bash
# Make .venv and install this package into it, with the extras given: bash scripts/setup.sh train,test
# Needs nothing but Python 3.11 or newer. Does nothing where that has been done already.
set -euo pipefail
cd "$(dirname "$0")/.."

extras="${1:-train}"
stamp=".venv/installed-$extras"
if [ -e "$stamp" ] && [ "$stamp" -nt pyproject.toml ]; then
    exit 0
fi
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
echo "Installing cgrseg_hf[$extras] into .venv; the first time this takes some minutes, most of it PyTorch."
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
touch "$stamp"
