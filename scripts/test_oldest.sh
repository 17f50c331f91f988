#!/usr/bin/env bash
# Run the tests on the built wheel with the oldest releases that pyproject.toml allows, and without torchvision.
#   bash scripts/test_oldest.sh [pytest's own arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/oldest
rm -rf "$folder"
"${PYTHON:-python3}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" --disable-pip-version-check --quiet "$@"; }
pip install uv
pip wheel --no-deps --wheel-dir "$folder" .
# What torch needs depends on its build: pip chooses that, and installs the rest as it was resolved.
"$folder/venv/bin/uv" pip compile --quiet --resolution lowest-direct --extra test pyproject.toml \
    --no-emit-package torchvision --no-emit-package timm --no-annotate --no-header > "$folder/oldest.txt"
pip install "$(grep '^torch==' "$folder/oldest.txt")"
grep -vE '^(torch|triton|nvidia|cuda)' "$folder/oldest.txt" > "$folder/rest.txt"
pip install --no-deps -r "$folder/rest.txt" "$folder"/*.whl
# From a folder of its own, where the checkout is not in the way.
cd "$folder"
venv/bin/python - <<'EOF'
import importlib
import pkgutil

import cgrseg_hf

imported, refused = 0, []
for module in pkgutil.walk_packages(cgrseg_hf.__path__, "cgrseg_hf."):
    if module.name.endswith(".__main__"):
        continue
    try:
        importlib.import_module(module.name)
        imported += 1
    except ModuleNotFoundError as error:  # training needs torchvision, an extra
        if error.name != "torchvision":
            raise
        refused.append(module.name)
print(f"{imported} modules of {cgrseg_hf.__file__} were imported; without torchvision not {', '.join(refused)}")
EOF
cd - > /dev/null
exec "$folder/venv/bin/pytest" -n auto --maxprocesses 8 --dist worksteal "$@"
