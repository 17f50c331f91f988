# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The recipe's parameter groups and learning rates."""

import pytest
import torch
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation
from cgrseg_hf.training.optimizer import find_rule, learning_rate_factor, make_optimizer


def test_rules_speak_of_the_references_names():
    head, no_decay, plain = (True, True), (False, False), (False, True)
    model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset("t", num_labels=3))
    rules = {name: find_rule(name) for name, _ in model.named_parameters()}
    # All of the decoder learns fast and decays, its norms too.
    decoder = {rule for name, rule in rules.items() if not name.startswith("cgrseg.backbone.")}
    assert decoder == {head}
    talking = [rule for name, rule in rules.items() if "talking_heads" in name]
    assert len(talking) == 2 * 2 * 2 * 2  # two stages, two blocks each, two convolutions, weight and bias
    assert set(talking) == {head}
    assert rules["cgrseg.backbone.stages.0.layers.0.mlp.expansion.normalization.weight"] == no_decay
    assert rules["cgrseg.backbone.stages.0.layers.0.mlp.expansion.convolution.weight"] == plain
    # The stem's norms are numbered in the reference, not called norms: they decay there.
    assert rules["cgrseg.backbone.stem.first.normalization.weight"] == plain
    assert rules["cgrseg.backbone.stages.3.downsample.convolution.normalization.weight"] == plain


def test_groups_hold_every_parameter_once():
    model = SegformerForSemanticSegmentation(
        SegformerConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8)
    )
    optimizer = make_optimizer(model, 1e-3, 10.0, 0.01, (0.9, 0.999))
    grouped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))
    of_head = next(group for group in optimizer.param_groups if group["lr"] == 1e-2)
    assert {id(p) for p in of_head["params"]} == {id(p) for p in model.decode_head.parameters()}
    of_norms = next(group for group in optimizer.param_groups if group["weight_decay"] == 0)
    norms = {id(p) for name, p in model.segformer.named_parameters() if "norm" in name}
    assert {id(p) for p in of_norms["params"]} == norms
    assert all(torch.is_tensor(p) for p in grouped)


def test_learning_rate_over_time():
    def at(step):
        return learning_rate_factor(step, max_steps=160_000, warmup_steps=1500, warmup_factor=1e-6, poly_power=1.0)

    assert at(0) == pytest.approx(1e-6)
    assert at(750) == pytest.approx((0.5 + 0.5e-6) * (1 - 750 / 160_000))
    assert at(1500) == pytest.approx(1 - 1500 / 160_000)
    assert at(80_000) == pytest.approx(0.5)
    assert at(160_000) == 0
