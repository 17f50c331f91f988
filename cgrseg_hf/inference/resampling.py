# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Regions of images and of class scores, exactly as if the whole had been resized bilinearly."""

import math
from collections.abc import Callable

import numpy as np
import torch

from ..model.geometry_cgrseg import LOGITS_STRIDE, get_logits_size

# Scores that are held at once while they become one value a pixel: 64 MB in float32.
_SCORES_AT_ONCE = 2**24


def compute_taps(region: slice, scale: float, length: int, antialias: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Compute which positions of a side make those of a region of the resized side, and their weights.

    Args:
        region (`slice`): Positions of the resized side.
        scale (`float`): Positions of the resized side for each one of the side.
        length (`int`): Positions of the side.
        antialias (`bool`): Whether to smooth where the side becomes shorter.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]`: positions, int64, and weights, float32, both `(region, taps)`.
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


def _apply_taps(values: torch.Tensor, axis: int, positions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Add up the weighted positions (region, taps) along one axis of values of three dimensions."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return sum(
        values.index_select(axis, positions[:, tap]) * weights[:, tap].reshape(shape)
        for tap in range(positions.shape[1])
    )


def resample_region(
    pixels: np.ndarray,
    origin: tuple[int, int],
    region: tuple[slice, slice],
    scale: float,
    size: tuple[int, int],
    antialias: bool,
) -> torch.Tensor:
    """
    Compute a region of an image that is resized as a whole, from the part of the image that the region needs.

    Args:
        pixels (`numpy.ndarray` of shape `(height, width, channels)`):
            A part of the image.
        origin (`tuple[int, int]`):
            Row and column in the image of the part's first pixel.
        region (`tuple[slice, slice]`):
            Rows and columns of the resized image.
        scale (`float`):
            Pixels of the resized image for each pixel of the image.
        size (`tuple[int, int]`):
            Height and width of the image.
        antialias (`bool`):
            Whether to smooth where the image becomes smaller.

    Returns:
        `torch.Tensor` of shape `(rows, columns, channels)`: of the pixels' type; integers are rounded.
    """
    values = torch.from_numpy(pixels)
    resampled = values.float()
    for axis in (0, 1):
        positions, weights = compute_taps(region[axis], scale, size[axis], antialias)
        resampled = _apply_taps(resampled, axis, positions - origin[axis], weights)
    return resampled.to(values.dtype) if values.is_floating_point() else resampled.round().to(values.dtype)


def resize_logits_region(
    logits: torch.Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int],
    region: tuple[slice, slice],
) -> torch.Tensor:
    """
    Compute the class scores of a region, as if the logits had been resized to the image's size as a whole.

    Args:
        logits (`torch.Tensor` of shape `(num_labels, logits_height, logits_width)`):
            Class scores.
        image_size (`tuple[int, int]`, *optional*):
            Height and width in pixels of the image in the input of CGRSeg, whose logits have a position for every 8×8
            pixels. `None` for logits of any stride that cover the image exactly.
        target_size (`tuple[int, int]`):
            Height and width of the whole result.
        region (`tuple[slice, slice]`):
            Rows and columns of the result to compute.

    Returns:
        `torch.Tensor` of shape `(num_labels, rows, columns)`, float32.
    """
    if image_size is None:
        image_size = tuple(LOGITS_STRIDE * length for length in logits.shape[1:])
    rows, columns = get_logits_size(image_size)
    scores = logits[:, :rows, :columns].float()
    for axis in (0, 1):
        scale = LOGITS_STRIDE * target_size[axis] / image_size[axis]
        positions, weights = compute_taps(region[axis], scale, scores.shape[1 + axis], antialias=False)
        scores = _apply_taps(scores, 1 + axis, positions.to(logits.device), weights.to(logits.device))
    return scores


def reduce_scores(
    function: Callable[[torch.Tensor], torch.Tensor],
    logits: torch.Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int],
) -> torch.Tensor:
    """
    Compute one value for each pixel from its class scores, holding the scores of a few rows at a time.

    Args:
        function (`Callable`):
            Computes values `(rows, width)` from scores `(num_labels, rows, width)`.
        logits (`torch.Tensor`), image_size (`tuple[int, int]`, *optional*), target_size (`tuple[int, int]`):
            See [`resize_logits_region`].

    Returns:
        `torch.Tensor` of shape `target_size`, float32.
    """
    height, width = target_size
    values = torch.empty(target_size, device=logits.device)
    step = max(_SCORES_AT_ONCE // (len(logits) * width), 1)
    for top in range(0, height, step):
        rows = slice(top, min(top + step, height))
        values[rows] = function(resize_logits_region(logits, image_size, target_size, (rows, slice(0, width))))
    return values


def compute_entropy(scores: torch.Tensor) -> torch.Tensor:
    """Compute the entropy of class probabilities in nats, `(rows, width)`, from scores `(num_labels, rows, width)`."""
    log_probabilities = scores.log_softmax(dim=0)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=0)
