# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the long runs of this folder saw, kept beside them so that `RELIABILITY.md` is written from it."""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import torch
import transformers

from cgrseg_hf.utils.provenance import find_processor

EVIDENCE = Path(__file__).parent / "evidence"

# The order of the page's sections, which is that of the files' names.
SECTIONS = (
    "inputs",
    "data-at-scale",
    "training-faults",
    "concurrency",
    "untrusted-files",
    "compatibility",
    "coverage",
    "mutations",
)


@dataclass(frozen=True)
class Evidence:
    """
    What one run saw.

    Args:
        section (`str`): One of `SECTIONS`; the run replaces what an earlier one has kept there.
        title (`str`): Heading of its section.
        command (`str`): What repeats it.
        summary (`str`): What was done and what came of it, in Markdown, with the run's own figures.
        columns (`Sequence[str]`), rows (`Sequence[Sequence[Any]]`): A table of what was tried and what came of it.
        failures (`int`): Wrong answers, lost checkpoints, escapes: what must be 0.
        seconds (`float`): How long it took.
    """

    section: str
    title: str
    command: str
    summary: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    failures: int
    seconds: float
    machine: str = field(default_factory=lambda: describe_machine())
    date: str = field(default_factory=lambda: date.today().isoformat())

    def save(self) -> Path:
        """Keep it under its section's name."""
        if self.section not in SECTIONS:
            raise ValueError(f"The page has no section {self.section!r}: it has {', '.join(SECTIONS)}.")
        EVIDENCE.mkdir(exist_ok=True)
        file = EVIDENCE / f"{self.section}.json"
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return file


def describe_machine() -> str:
    """Processor, system and releases, which a run's figures depend on."""
    return (
        f"{find_processor()}, {platform.system()}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"
    )


def load_evidence() -> list[Evidence]:
    """What was kept, in the page's order."""
    files = [EVIDENCE / f"{section}.json" for section in SECTIONS]
    return [Evidence(**json.loads(file.read_text(encoding="utf-8"))) for file in files if file.is_file()]
