# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Model cards from what was measured."""

import dataclasses

import pytest

from cgrseg_hf.model_card import CardFacts, make_model_card

FACTS = CardFacts(
    name="A model",
    summary="It segments.",
    dataset="Two classes",
    dataset_id="two-classes",
    license="other",
    uses="Tests alone.",
    training="Not at all.",
    command="cgrseg train --data two",
    evaluation="cgrseg evaluate --data two",
    limits=["Everything."],
)
REPORT = {
    "metrics": {"mean_iou": 0.5, "overall_accuracy": 0.75, "mean_accuracy": 0.6},
    "classes": [{"name": "ground", "iou": 0.5, "accuracy": None, "share": 1.0}],
    "protocol": {"description": "whole image"},
    "num_images": 3,
    "versions": {"torch": "2"},
}
LOG = [{"step": 1, "loss": 0.5}, {"step": 1, "mean_iou": 0.5, "overall_accuracy": 0.75}]
SIZE = {"shortest_edge": 512, "longest_edge": 2048}


@pytest.mark.parametrize("comparison", ["", "Others are worse."])
def test_card(comparison):
    card = make_model_card(dataclasses.replace(FACTS, comparison=comparison), REPORT, LOG, 1234567, SIZE)
    assert card.data.eval_results[0].metric_value == 0.5
    for text in (
        "1,234,567 parameters",
        "a shorter side of 512 pixels",
        "| **mean IoU** | **50.00** | | |",
        comparison,
    ):
        assert text in card.text
    assert "```bash\ncgrseg evaluate --data two\n```\n\n" in card.text
    assert "\n\n\n" not in card.text  # no empty gaps
    assert "\n\n## Training\n" in card.text


def test_fixed_size():
    card = make_model_card(FACTS, REPORT, LOG, 1, {"height": 64, "width": 96})
    assert "64×96 pixels (height × width)" in card.text
