# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The loss as a sum over pixels, which parts of a batch can share."""

import torch
from torch import nn

from ..model.post_processing_cgrseg import resize_to_input


def summed_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    ignore_index: int,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Cross-entropy at the labels' size, summed over pixels.

    Divided by [`loss_weight`], or by the number of pixels, of the whole batch, it is the batch's loss, in whatever
    parts and on however many processes the batch was computed.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels, logits_height, logits_width)`):
            Class scores of images of the labels' size.
        labels (`torch.Tensor` of shape `(batch, height, width)`):
            Class of each pixel, int64.
        ignore_index (`int`):
            Label of pixels that do not count.
        class_weights (`torch.Tensor` of shape `(num_labels,)`, *optional*):
            How much a pixel of each class counts.
    """
    logits = resize_to_input(logits.float(), tuple(labels.shape[-2:]))
    return nn.functional.cross_entropy(logits, labels, weight=class_weights, ignore_index=ignore_index, reduction="sum")


def loss_weight(labels: torch.Tensor, ignore_index: int, class_weights: torch.Tensor | None = None) -> torch.Tensor:
    """How much the pixels of `labels` that are not ignored count together, a float64 scalar."""
    counts = labels != ignore_index
    if class_weights is None:
        return counts.sum(dtype=torch.float64)
    pixels = torch.bincount(labels[counts].int(), minlength=len(class_weights)).to(torch.float64)
    return pixels @ class_weights.to(pixels)
