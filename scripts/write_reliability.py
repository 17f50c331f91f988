# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Write tests/RELIABILITY.md from what the runs of tests/reliability have kept.

python scripts/write_reliability.py
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parents[1] / "tests"
_INTRODUCTION = """# Reliability

How the package was tried under damaged input, faults, load and hostile files, and what came of it. This page is
written by `scripts/write_reliability.py` from what the runs have kept in `tests/reliability/evidence`;
`bash scripts/reliability.sh` repeats the first five and writes it anew; the others have commands of their own. Small
forms of most run in the default suite.
"""


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=_TESTS / "RELIABILITY.md", help="write it here")
    arguments = parser.parse_args()
    arguments.output.write_text(make_page(), encoding="utf-8")


def make_page() -> str:
    """The page in Markdown."""
    sys.path.append(str(_TESTS / "reliability"))
    from evidence import load_evidence

    kept = load_evidence()
    parts = [_INTRODUCTION]
    overview = [
        (f"[{one.title}](#{_anchor(one.title)})", one.failures, _in_words(one.seconds), one.date) for one in kept
    ]
    parts.append(_table(("Run", "Failures", "Time", "Date"), overview))
    for one in kept:
        parts.append(f"## {one.title}\n\n{one.summary.strip()}\n")
        parts.append(_table(one.columns, one.rows))
        parts.append(f"Repeat it: `{one.command}` ({_in_words(one.seconds)} on {one.machine}, {one.date}).\n")
    return "\n".join(parts)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _anchor(title: str) -> str:
    return "".join(one for one in title.lower().replace(" ", "-") if one.isalnum() or one in "-_")


def _in_words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


if __name__ == "__main__":
    main()
