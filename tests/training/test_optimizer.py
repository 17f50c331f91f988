# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The recipe's parameter groups and learning rates."""

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation
from cgrseg_hf.conversion.names import official_name
from cgrseg_hf.training.optimizer import find_group, learning_rate_factor, make_optimizer

# The reference's rules, the first that fits holds: (part of a tensor's name, learns at the head's rate, decays).
REFERENCE_RULES = (
    ("absolute_pos_embed", False, False),
    ("head", True, True),
    ("norm", False, False),
    ("", False, True),
)


@pytest.mark.parametrize("preset", ["t", "b", "l"])
def test_groups_are_those_of_the_reference(preset):
    with torch.device("meta"):
        model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(preset, num_labels=3))
    groups = {name: find_group(name) for name, _ in model.named_parameters()}
    assert set(groups.values()) == {(True, True), (False, False), (False, True)}
    for name, group in groups.items():
        part, is_head, decays = next(rule for rule in REFERENCE_RULES if rule[0] in official_name(name))
        assert group == (is_head, decays), (name, part)


def test_groups_of_another_model_hold_every_parameter_once():
    model = SegformerForSemanticSegmentation(
        SegformerConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8)
    )
    groups = make_optimizer(model, 1e-3, 10.0, 0.01, (0.9, 0.999)).param_groups
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(map(id, model.parameters()))
    of_head = next(group for group in groups if group["lr"] == 1e-2)
    assert set(of_head["params"]) == set(model.decode_head.parameters())
    of_norms = next(group for group in groups if group["weight_decay"] == 0)
    assert set(of_norms["params"]) == {p for name, p in model.segformer.named_parameters() if "norm" in name}


def test_learning_rate_over_time():
    def at(step):
        return learning_rate_factor(step, max_steps=160_000, warmup_steps=1500, warmup_factor=1e-6, poly_power=1.0)

    assert at(0) == pytest.approx(1e-6)
    assert at(750) == pytest.approx((0.5 + 0.5e-6) * (1 - 750 / 160_000))
    assert at(1500) == pytest.approx(1 - 1500 / 160_000)
    assert at(80_000) == pytest.approx(0.5)
    assert at(160_000) == 0
