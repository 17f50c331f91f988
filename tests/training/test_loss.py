# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The summed loss."""

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from cgrseg_hf import CGRSegForSemanticSegmentation
from cgrseg_hf.training.loss import loss_weight, summed_loss


@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
@pytest.mark.parametrize("normalization", ["valid", "all"])
def test_it_is_the_models_own_loss(tiny_config, size, normalization):
    model = CGRSegForSemanticSegmentation(tiny_config(loss_normalization=normalization)).eval()
    pixel_values, labels = torch.randn(2, 3, *size), torch.randint(0, 5, (2, *size))
    labels[:, :20] = 255
    outputs = model(pixel_values, labels=labels)
    divisor = loss_weight(labels, 255) if normalization == "valid" else labels.numel()
    torch.testing.assert_close(summed_loss(outputs.logits, labels, 255) / divisor, outputs.loss, check_dtype=False)


def test_other_strides_and_class_weights():
    logits, labels = torch.randn(2, 3, 16, 24), torch.randint(0, 3, (2, 64, 96))
    labels[0, :10] = 255
    weights = torch.tensor([1.0, 0.5, 4.0])
    expected = cross_entropy(interpolate(logits, scale_factor=4, mode="bilinear"), labels, weights, ignore_index=255)
    loss = summed_loss(logits, labels, 255, weights) / loss_weight(labels, 255, weights)
    torch.testing.assert_close(loss, expected, check_dtype=False)


def test_nothing_labelled_is_no_loss():
    labels = torch.full((1, 64, 64), 255)
    assert loss_weight(labels, 255) == 0
    assert summed_loss(torch.randn(1, 3, 8, 8), labels, 255) == 0
