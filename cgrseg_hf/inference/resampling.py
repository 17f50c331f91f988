# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Parts of pictures and scores that are resized as a whole."""

import math

import numpy as np
import torch

from ..post_processing_cgrseg import LOGITS_STRIDE

# Scores that are held at once while their entropy is computed: 64 MB in float32.
_SCORES_AT_ONCE = 2**24


def resample(
    pixels: np.ndarray,
    origin: tuple[int, int],
    region: tuple[slice, slice],
    scale: float,
    size: tuple[int, int],
    antialias: bool,
) -> torch.Tensor:
    """
    A region of a picture that is resized bilinearly as a whole, from the part of it that the region needs.

    Args:
        pixels (`numpy.ndarray` of shape `(height, width, channels)`):
            A part of the picture.
        origin (`tuple[int, int]`):
            Row and column of the part's first pixel in the picture.
        region (`tuple[slice, slice]`):
            Rows and columns of the result in the resized picture.
        scale (`float`):
            Pixels of the resized picture for each of the picture.
        size (`tuple[int, int]`):
            Height and width of the picture.
        antialias (`bool`):
            Whether to smooth where the picture becomes smaller.

    Returns:
        `torch.Tensor` of shape `(height, width, channels)`: of the pixels' type; whole numbers are rounded.
    """
    values = torch.from_numpy(pixels)
    resampled = values.float()
    for axis in (0, 1):
        positions, weights = taps(region[axis], scale, size[axis], antialias)
        positions = positions - origin[axis]
        shape = [-1, 1, 1] if axis == 0 else [1, -1, 1]
        resampled = sum(
            resampled.index_select(axis, positions[:, tap]) * weights[:, tap].reshape(shape)
            for tap in range(positions.shape[1])
        )
    return resampled.to(values.dtype) if values.is_floating_point() else resampled.round().to(values.dtype)


def taps(region: slice, scale: float, length: int, antialias: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Which positions of a side of `length` pixels make those of a region after resizing, and with which weights.

    Returns:
        `tuple`: positions, int64, and weights, float32, both `(positions of the region, taps)`.
    """
    support = max(1 / scale, 1.0) if antialias else 1.0
    centers = (torch.arange(region.start, region.stop, dtype=torch.float64) + 0.5) / scale - 0.5
    first = (centers - support).floor().long() + 1
    positions = first[:, None] + torch.arange(math.ceil(2 * support))
    weights = (1 - (positions - centers[:, None]).abs() / support).clamp(min=0)
    if antialias:
        weights = torch.where((positions >= 0) & (positions < length), weights, 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return positions.clamp(0, length - 1), weights.float()


def pixel_entropy(
    logits: torch.Tensor, image_size: tuple[int, int] | None, target_size: tuple[int, int]
) -> torch.Tensor:
    """
    Entropy of the classes' probabilities at each pixel, with the scores of a few rows at a time.

    Args:
        logits (`torch.Tensor` of shape `(num_labels, logits_height, logits_width)`):
            Class scores.
        image_size (`tuple[int, int]`, *optional*):
            Height and width in pixels of the image in the input of CGRSeg, whose logits have a position for every 8×8
            pixels. `None` for logits of any stride that cover the image exactly.
        target_size (`tuple[int, int]`):
            Height and width of the result.

    Returns:
        `torch.Tensor` of shape `target_size`, float32: nats.
    """
    (height, width), device = target_size, logits.device
    if image_size is None:
        image_size = tuple(LOGITS_STRIDE * length for length in logits.shape[1:])
    scales = [LOGITS_STRIDE * target / length for target, length in zip(target_size, image_size)]
    rows, columns = (-(-length // LOGITS_STRIDE) for length in image_size)
    logits = logits[:, :rows, :columns].float()
    positions, weights = (part.to(device) for part in taps(slice(0, width), scales[1], columns, antialias=False))
    entropy = torch.empty(target_size, device=device)
    step = max(_SCORES_AT_ONCE // (len(logits) * width), 1)
    for top in range(0, height, step):
        strip = slice(top, min(top + step, height))
        above_below, shares = (part.to(device) for part in taps(strip, scales[0], rows, antialias=False))
        scores = sum(logits[:, above_below[:, tap]] * shares[:, tap, None] for tap in (0, 1))
        scores = sum(scores[..., positions[:, tap]] * weights[:, tap] for tap in (0, 1))
        log_probabilities = scores.log_softmax(dim=0)
        entropy[strip] = -(log_probabilities.exp() * log_probabilities).sum(dim=0)
    return entropy
