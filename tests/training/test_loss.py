# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The loss as a sum, which the parts of a batch can share."""

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from cgrseg_hf.model.modeling_cgrseg import loss_weight, semantic_segmentation_loss


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 0.5, 4.0])])
def test_sums_of_parts_divided_by_the_whole_weight_are_the_mean(weights):
    logits, labels = torch.randn(2, 3, 16, 24), torch.randint(0, 3, (2, 64, 96), dtype=torch.uint8)
    labels[0, :10] = 255
    resized = interpolate(logits, scale_factor=4, mode="bilinear")
    expected = cross_entropy(resized, labels.long(), weights, ignore_index=255)
    parts = [semantic_segmentation_loss(logits[i, None], labels[i, None], 255, None, weights) for i in range(2)]
    torch.testing.assert_close(sum(parts) / loss_weight(labels, 255, weights), expected, check_dtype=False)
    whole = semantic_segmentation_loss(logits, labels, 255, None, weights, reduction="valid")
    torch.testing.assert_close(whole, expected)
