# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg info`."""

import importlib.metadata
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ..pretrained import DEFAULT_MODEL
from ..utils.messages import echo
from .data_options import announce

_DISTRIBUTION = "cgrseg-hf"
_EXTRA = re.compile(r"""extra\s*==\s*["']([^"']+)["']""")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
# For those who work on the package, not for its users.
_HIDDEN_EXTRAS = ("test", "docs")


def info(
    check: Annotated[
        bool, typer.Option("--check", help="Run every engine that is installed; the first time takes a minute or two.")
    ] = False,
    clear_exports: Annotated[
        bool,
        typer.Option(
            "--clear-exports", help="Delete the exports that engines have kept; they are made anew when needed."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what is installed, which devices and engines there are, and where the shipped model and exports lie."""
    if not as_json:
        announce("Trying the engines" if check else "Looking around")
    if clear_exports:
        from ..export.cache import clear_exports as clear

        number, size = clear()
        echo(f"Deleted {number} exports, {size / 1e6:.0f} MB.", err=as_json)
    found = _find()
    if check:
        for name, engine in found["engines"].items():
            if not engine["missing"]:
                engine["error"] = _try(name)
    echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(_describe(found)))
    if any(engine.get("error") for engine in found["engines"].values()):
        raise typer.Exit(1)


def _find() -> dict[str, Any]:
    import torch

    from ..engines.names import ENGINE_PACKAGES
    from ..export.cache import exports_folder, measure_exports
    from ..utils.optional import find_missing_packages
    from ..utils.provenance import count_cores, find_git_commit, find_processor, find_versions

    extras = _find_extras()
    core = extras.pop(None)
    number, size = measure_exports()
    return {
        "versions": find_versions(*core),
        "commit": find_git_commit(),
        "processor": {"name": find_processor(), "cores": count_cores()},
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "engines": {name: {"missing": find_missing_packages(packages)} for name, packages in ENGINE_PACKAGES.items()},
        "extras": {
            extra: sorted(set(packages) - find_versions(*packages).keys()) for extra, packages in extras.items()
        },
        "shipped_model": str(DEFAULT_MODEL),
        "kept_exports": {"folder": str(exports_folder()), "number": number, "bytes": size},
    }


def _find_extras() -> dict[str | None, list[str]]:
    """List the packages of each extra, and under None those that are always needed."""
    extras: dict[str | None, list[str]] = {None: []}
    for requirement in importlib.metadata.requires(_DISTRIBUTION) or []:
        extra = _EXTRA.search(requirement)
        name = extra[1] if extra else None
        if name not in _HIDDEN_EXTRAS:
            extras.setdefault(name, []).append(_NAME.match(requirement)[0])
    return extras


def _try(engine: str) -> str | None:
    """Segment an image with an engine, and return the error, if there is one."""
    import numpy as np

    from ..inference import Segmenter

    try:
        Segmenter.from_pretrained(engine=engine)(np.zeros((64, 96, 3), dtype=np.uint8))
    except Exception as error:  # whatever it is, it belongs to the answer
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def _describe(found: dict[str, Any]) -> Iterator[str]:
    versions = found["versions"]
    yield ", ".join(f"{name} {version}" for name, version in versions.items())
    yield f"Processor: {found['processor']['name']}, {found['processor']['cores']} cores"
    yield f"GPUs: {', '.join(found['gpus']) or 'none that PyTorch can use'}"
    yield ""
    yield "Engines"
    for name, engine in found["engines"].items():
        if engine["missing"]:
            state = f'not installed: pip install "cgrseg_hf[export]" (missing: {", ".join(engine["missing"])})'
        elif "error" not in engine:
            state = "installed"
        else:
            state = "works" if engine["error"] is None else f"fails: {engine['error']}"
        yield f"  {name:<12} {state}"
    yield ""
    yield 'Extras, installed by pip install "cgrseg_hf[NAME]"'
    for name, missing in found["extras"].items():
        yield f"  {name:<12} {'missing: ' + ', '.join(missing) if missing else 'installed'}"
    yield ""
    kept = found["kept_exports"]
    yield f"Shipped model: {found['shipped_model']}"
    yield (
        f"Exports made for engines: {kept['number']}, {kept['bytes'] / 1e6:.0f} MB, in {kept['folder']} "
        "(--clear-exports deletes them)"
    )
