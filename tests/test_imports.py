# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Imports inside the package run one way, at any depth: no upward import, and no circle."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cgrseg_hf"


def find_modules() -> dict[str, Path]:
    """The file of each module, by its dotted name within the package."""
    return {".".join(file.relative_to(PACKAGE).with_suffix("").parts): file for file in PACKAGE.rglob("*.py")}


def find_imports(module: str, file: Path, modules: dict[str, Path]) -> set[str]:
    """The modules of the package that a module imports, those inside of functions and type checks too."""
    found = set()
    stub = file.with_suffix(".pyi")  # what a lazy package imports
    text = "\n".join(one.read_text(encoding="utf-8") for one in (file, stub) if one.is_file())
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom | ast.Import):
            continue
        if isinstance(node, ast.Import) or not node.level:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not any(name.split(".")[0] == PACKAGE.name for name in names), f"{module}: import relatively"
            continue
        package = module.split(".")[: -node.level]
        base = [*package, *(node.module.split(".") if node.module else [])]
        for alias in node.names:
            submodule = ".".join([*base, alias.name])
            candidates = (submodule, f"{submodule}.__init__", ".".join(base), ".".join([*base, "__init__"]))
            target = next(name for name in candidates if name in modules)
            assert target != "__init__" or alias.name == "__version__", f"{module}: import {alias.name} from its module"
            found.add(target)
    return found


def read_layers() -> list[str]:
    """The order of the layers, from the line of CONTRIBUTING.md that states it."""
    line = next(line for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines() if line.startswith("`model` →"))
    return re.findall(r"`(\w+)`", line)


def layer_of(module: str) -> str:
    return module.partition(".")[0]


def test_imports_run_one_way():
    modules, layers = find_modules(), read_layers()
    top = {"__init__", "__main__"}  # what a user imports, and what starts the commands: above all others
    assert {layer_of(module) for module in modules} == {*layers, *top}
    upward = [
        f"{module} imports {target}"
        for module, file in modules.items()
        for target in find_imports(module, file, modules)
        if layer_of(module) not in top
        and layer_of(target) not in top
        and layers.index(layer_of(target)) > layers.index(layer_of(module))
    ]
    assert not upward, "\n".join(upward)


def test_no_module_imports_itself_by_way_of_others():
    modules = find_modules()
    graph = {module: find_imports(module, file, modules) for module, file in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules of a circle


def test_the_tree_in_contributing_is_complete_and_true():
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```")[1]
    entries = {}
    for depth, shown in re.findall(r"^( *)((?:[\w.]+/?, )*[\w.]+/?)", tree, re.MULTILINE):
        entries.setdefault(len(depth), set()).update(shown.replace("/", "").split(", "))
    top = {path.name for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "__main__.py", "py.typed")}
    assert entries[2] == top
    assert entries[4] == {path.name for path in (PACKAGE / "model").glob("[!_]*.py")}
    assert all((ROOT / name).is_dir() for name in entries[0])
