# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Parts of pictures and scores that are resized as a whole."""

import math
from collections.abc import Callable

import numpy as np
import torch

from ..model.geometry_cgrseg import LOGITS_STRIDE

# Scores that are held at once while they become one value a pixel: 64 MB in float32.
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


def scores_of_region(
    logits: torch.Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int],
    region: tuple[slice, slice],
) -> torch.Tensor:
    """
    Class scores of a part of an image, as if they had been resized to its size as a whole.

    Args:
        logits (`torch.Tensor` of shape `(num_labels, logits_height, logits_width)`):
            Class scores.
        image_size (`tuple[int, int]`, *optional*):
            Height and width in pixels of the image in the input of CGRSeg, whose logits have a position for every 8×8
            pixels. `None` for logits of any stride that cover the image exactly.
        target_size (`tuple[int, int]`):
            Height and width of the whole result.
        region (`tuple[slice, slice]`):
            Rows and columns of it to compute.

    Returns:
        `torch.Tensor` of shape `(num_labels, rows, columns)`, float32.
    """
    if image_size is None:
        image_size = tuple(LOGITS_STRIDE * length for length in logits.shape[1:])
    rows, columns = (-(-length // LOGITS_STRIDE) for length in image_size)
    scores = logits[:, :rows, :columns].float()
    for axis in (0, 1):
        scale = LOGITS_STRIDE * target_size[axis] / image_size[axis]
        positions, weights = (
            part.to(logits.device) for part in taps(region[axis], scale, scores.shape[1 + axis], antialias=False)
        )
        shape = [1, -1, 1] if axis == 0 else [1, 1, -1]
        scores = sum(
            scores.index_select(1 + axis, positions[:, tap]) * weights[:, tap].reshape(shape) for tap in (0, 1)
        )
    return scores


def map_strips(
    function: Callable[[torch.Tensor], torch.Tensor],
    logits: torch.Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int],
) -> torch.Tensor:
    """
    A value for each pixel from its class scores, with the scores of a few rows at a time.

    Args:
        function (`Callable`):
            Takes scores `(num_labels, rows, width)` and gives values `(rows, width)`.
        logits (`torch.Tensor`), image_size (`tuple[int, int]`, *optional*), target_size (`tuple[int, int]`):
            See [`scores_of_region`].

    Returns:
        `torch.Tensor` of shape `target_size`, float32.
    """
    height, width = target_size
    values = torch.empty(target_size, device=logits.device)
    step = max(_SCORES_AT_ONCE // (len(logits) * width), 1)
    for top in range(0, height, step):
        strip = slice(top, min(top + step, height))
        values[strip] = function(scores_of_region(logits, image_size, target_size, (strip, slice(0, width))))
    return values


def pixel_entropy(
    logits: torch.Tensor, image_size: tuple[int, int] | None, target_size: tuple[int, int]
) -> torch.Tensor:
    """
    Entropy of the classes' probabilities at each pixel.

    Args:
        logits (`torch.Tensor`), image_size (`tuple[int, int]`, *optional*), target_size (`tuple[int, int]`):
            See [`scores_of_region`].

    Returns:
        `torch.Tensor` of shape `target_size`, float32: nats.
    """

    def entropy(scores: torch.Tensor) -> torch.Tensor:
        log_probabilities = scores.log_softmax(dim=0)
        return -(log_probabilities.exp() * log_probabilities).sum(dim=0)

    return map_strips(entropy, logits, image_size, target_size)
