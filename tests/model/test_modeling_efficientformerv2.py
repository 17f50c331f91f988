# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The backbone on its own."""

import copy

import pytest
import torch
from transformers import AutoBackbone

from cgrseg_hf import EfficientFormerV2Backbone
from cgrseg_hf.model.modeling_efficientformerv2 import DropPath, EfficientFormerV2PositionBias, position_distances


def test_chosen_features_have_their_strides(tiny_config):
    config = tiny_config(backbone_config={"out_features": ["stem", "stage2", "stage4"]}).backbone_config
    backbone = AutoBackbone.from_config(config).eval()
    assert type(backbone) is EfficientFormerV2Backbone
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, 64, 96)).feature_maps
    assert [tuple(feature.shape) for feature in features] == [(2, 16, 16, 24), (2, 16, 8, 12), (2, 32, 2, 3)]
    assert backbone.channels == [16, 16, 32]
    assert len(backbone(torch.randn(1, 3, 32, 32), return_dict=False)) == 1


def test_single_hidden_states(tiny_config):
    backbone = EfficientFormerV2Backbone(tiny_config().backbone_config).eval()
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        states = backbone(pixel_values, output_hidden_states=True).hidden_states
        *others, last = backbone(pixel_values, output_hidden_states=[-1]).hidden_states
    assert others == [None] * (len(states) - 1)
    assert torch.equal(last, states[-1])


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing(tiny_config, use_reentrant: bool):
    torch.manual_seed(0)
    plain = EfficientFormerV2Backbone(tiny_config().backbone_config).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    # The reentrant kind passes no gradients on where nothing that comes in needs one.
    pixel_values = torch.randn(2, 3, 64, 64, requires_grad=True)
    for backbone in (plain, checkpointed):
        sum(feature.square().sum() for feature in backbone(pixel_values).feature_maps).backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters()):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    counts = {buffer.item() for name, buffer in checkpointed.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == ({1, 2} if use_reentrant else {1})  # which offers no hook to count a batch once


def test_distances_are_numbered_as_a_walk_first_meets_them():
    for grid_size, stride in [(3, 1), (2, 2), (4, 2)]:
        numbers: dict[tuple[int, int], int] = {}
        side = grid_size * stride
        walk = [
            numbers.setdefault((abs(y * stride - v), abs(x * stride - u)), len(numbers))
            for y in range(grid_size)
            for x in range(grid_size)
            for v in range(side)
            for u in range(side)
        ]
        assert position_distances(grid_size, stride).flatten().tolist() == walk


def test_position_bias_is_resized_as_a_picture():
    bias = EfficientFormerV2PositionBias(num_heads=2, grid_size=4, query_stride=2)
    torch.nn.init.normal_(bias.table)
    laid_out = bias(16, 64)
    expected = torch.nn.functional.interpolate(laid_out[None], size=(6, 24), mode="bicubic", align_corners=False)[0]
    torch.testing.assert_close(bias(6, 24), expected)


def test_drop_path_keeps_the_mean_and_drops_whole_images():
    torch.manual_seed(0)
    drop_path = DropPath(0.25)
    dropped = drop_path.train()(torch.ones(4000, 2, 1, 1))
    assert (dropped[:, 0] == dropped[:, 1]).all()
    assert abs(dropped.mean().item() - 1) < 0.05
    assert torch.equal(drop_path.eval()(dropped), dropped)
    assert str(drop_path) == "DropPath(drop_probability=0.25)"


def test_drop_path_grows_linearly(tiny_config):
    config = tiny_config(backbone_config={"drop_path_rate": 0.5}).backbone_config
    rates = [
        round(module.drop_probability, 6)
        for module in EfficientFormerV2Backbone(config).modules()
        if isinstance(module, DropPath)
    ]
    assert rates == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
