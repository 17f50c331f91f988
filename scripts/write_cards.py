# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Write all model cards anew: of the models that come with the package, and of the paper's models without weights.

    python scripts/write_cards.py

A card is made from files alone. For a trained model these lie in model_cards: NAME.yaml, what is said in words;
NAME.report.json, an evaluation; NAME.log.jsonl, the training's curve; and, if its speed was measured,
NAME.benchmark.json of `cgrseg benchmark`. What is known of the paper's models lies in cgrseg_hf/model_card.
"""

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation

import cgrseg_hf  # noqa: F401  (makes CGRSeg known to transformers)
from cgrseg_hf.hub.model_card import PAPER_CHECKPOINTS, make_model_card, make_planned_card, read_facts, read_log
from cgrseg_hf.pretrained import DEFAULT_MODEL

_CARDS = Path(__file__).parents[1] / "model_cards"


def main() -> None:
    """Write the cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="write them here, instead of where they belong")
    arguments = parser.parse_args()

    output = arguments.output or _CARDS
    output.mkdir(parents=True, exist_ok=True)
    for checkpoint in PAPER_CHECKPOINTS:
        (output / f"{checkpoint}.md").write_text(f"{make_planned_card(checkpoint)}\n", encoding="utf-8")
    for facts in (file.with_suffix("").with_suffix(".yaml") for file in sorted(_CARDS.glob("*.report.json"))):
        folder = DEFAULT_MODEL.parent / facts.stem
        card = make_trained_card(facts, folder)
        (output / f"{facts.stem}.md").write_text(card, encoding="utf-8")
        if arguments.output is None:
            (folder / "README.md").write_text(card, encoding="utf-8")


def make_trained_card(facts: Path, model: Path) -> str:
    """The card of a trained model, from the YAML file of its facts, the files beside that, and the model's folder."""
    report = json.loads(facts.with_suffix(".report.json").read_text(encoding="utf-8"))
    speed = facts.with_suffix(".benchmark.json")
    benchmark = json.loads(speed.read_text(encoding="utf-8")) if speed.exists() else None
    with torch.device("meta"):
        network = AutoModelForSemanticSegmentation.from_config(AutoConfig.from_pretrained(model))
    card = make_model_card(
        read_facts(facts),
        report,
        read_log(facts.with_suffix(".log.jsonl")),
        network.num_parameters(),
        AutoImageProcessor.from_pretrained(model).size,
        benchmark,
    )
    return f"{card}\n"


if __name__ == "__main__":
    main()
