# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Write the cards of the models that come with the package again.

    python scripts/write_cards.py

A card is made from files in model_cards: NAME.yaml, what is said in words; NAME.report.json, an evaluation;
NAME.log.jsonl, the training curve; and, if the speed was measured, NAME.benchmark.json of `cgrseg benchmark`.
"""

import argparse
from pathlib import Path

import cgrseg_hf  # noqa: F401  (makes CGRSeg known to transformers)
from cgrseg_hf.hub.cards import make_folder_card, read_facts, read_log
from cgrseg_hf.hub.staging import read_json
from cgrseg_hf.pretrained import DEFAULT_MODEL

_CARDS = Path(__file__).parents[1] / "model_cards"


def main() -> None:
    """Write the cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for facts in (file.with_suffix("").with_suffix(".yaml") for file in sorted(_CARDS.glob("*.report.json"))):
        folder = DEFAULT_MODEL.parent / facts.stem
        card = make_shipped_card(facts, folder)
        for path in (facts.with_suffix(".md"), folder / "README.md"):
            path.write_text(card, encoding="utf-8")


def make_shipped_card(facts: Path, folder: Path) -> str:
    """Make the card of a model from the YAML file of its facts, the files beside that, and the model's folder."""
    report, log, benchmark = (facts.with_suffix(ending) for ending in (".report.json", ".log.jsonl", ".benchmark.json"))
    speed = read_json(benchmark) if benchmark.is_file() else None
    return f"{make_folder_card(folder, read_facts(facts), read_json(report), read_log(log), speed)}\n"


if __name__ == "__main__":
    main()
