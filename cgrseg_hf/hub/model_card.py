# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Model cards: of trained models from what was measured, and of the paper's models that have no weights yet."""

from .paper import PAPER_CHECKPOINTS, PaperFigures, get_paper_figures
from .planned_cards import make_planned_card
from .trained_cards import (
    FACTS_HINT,
    CardFacts,
    describe_size,
    losses_by_step,
    make_model_card,
    read_facts,
    read_log,
)
from .written_cards import check_may_write, check_weights, write_card

__all__ = [
    "FACTS_HINT",
    "PAPER_CHECKPOINTS",
    "CardFacts",
    "PaperFigures",
    "check_may_write",
    "check_weights",
    "describe_size",
    "get_paper_figures",
    "losses_by_step",
    "make_model_card",
    "make_planned_card",
    "read_facts",
    "read_log",
    "write_card",
]
