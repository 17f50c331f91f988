# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Strides, padding and cropping: which pixels of an image each position of the logits belongs to."""

from collections.abc import Sequence

import torch
from transformers.image_utils import SizeDict

from .configuration_cgrseg import SIZE_DIVISOR

# CGRSeg's logits have one position for every 8×8 pixels of its input.
LOGITS_STRIDE = 8

FEATURE_STRIDES = (8, 16, 32)


def round_up(length: int, divisor: int) -> int:
    """Return the smallest multiple of the divisor that is not below the length."""
    # Written so that torch.export can tell that padded sizes are no smaller than the divisor.
    return divisor * ((length + divisor - 1) // divisor)


def get_logits_size(image_size: Sequence[int]) -> tuple[int, int]:
    """Return height and width of the logits that hold a pixel of an image."""
    return tuple((length + LOGITS_STRIDE - 1) // LOGITS_STRIDE for length in image_size)


def pad_to_size_divisor(pixel_values: torch.Tensor) -> torch.Tensor:
    """Pad (batch, channels, height, width) below and right with 0, the mean colour, to multiples of 32 pixels."""
    if pixel_values.ndim != 4:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, but (batch, channels, height, width) is expected: "
            "for a single image, use pixel_values[None]."
        )
    height, width = pixel_values.shape[-2:]
    bottom, right = (round_up(length, SIZE_DIVISOR) - length for length in (height, width))
    return torch.nn.functional.pad(pixel_values, (0, right, 0, bottom))


def crop_to_image(logits: torch.Tensor, pixel_values: torch.Tensor) -> torch.Tensor:
    """Crop logits to the positions that hold a pixel of the unpadded (batch, channels, height, width) image."""
    rows, columns = get_logits_size(pixel_values.shape[-2:])
    if torch.compiler.is_exporting():
        # torch.export cannot prove that a slice ends inside the tensor, and would tie the graph to multiples of 32.
        return torch.nn.functional.pad(logits, (0, columns - logits.shape[-1], 0, rows - logits.shape[-2]))
    return logits[..., :rows, :columns]


def find_image_sizes(pixel_values: torch.Tensor) -> torch.Tensor | None:
    """Height and width of each image where its last logits reach beyond it, (batch, 2); otherwise None."""
    batch_size, _, height, width = pixel_values.shape
    if torch.compiler.is_exporting() or not (height % LOGITS_STRIDE or width % LOGITS_STRIDE):
        return None
    return torch.tensor([[height, width]], device=pixel_values.device).expand(batch_size, 2)


def image_size_of_input(logits: torch.Tensor, input_size: tuple[int, int]) -> tuple[int, int] | None:
    """
    What to pass as `image_size` for logits of any model's whole input: only CGRSeg's may reach beyond it.

    Args:
        logits (`torch.Tensor` of shape `(..., logits_height, logits_width)`):
            Class scores.
        input_size (`tuple[int, int]`):
            Height and width in pixels of the model's input. The height may be larger than it was: Trainer pads label
            maps of unequal heights at the bottom.

    Returns:
        `tuple[int, int]`: the input's size if the logits have CGRSeg's stride, or else `None`.
    """
    return input_size if logits.shape[-1] == get_logits_size(input_size)[1] else None


def get_padded_size(image_sizes: list[tuple[int, int]], divisor: int, pad_size: SizeDict | None) -> tuple[int, int]:
    """The common height and width of a batch: `pad_size`, or the next multiples of the divisor that hold all images."""
    largest = tuple(max(lengths) for lengths in zip(*image_sizes))
    if pad_size is None:
        return tuple(round_up(length, divisor) for length in largest)
    padded_size = (pad_size.height, pad_size.width)
    if any(padded < length for padded, length in zip(padded_size, largest)):
        raise ValueError(
            f"pad_size={padded_size} is smaller than an image of {largest}: make it larger, or size smaller."
        )
    return padded_size


def pad_to_size(tensor: torch.Tensor, size: tuple[int, int], value: float) -> torch.Tensor:
    """Pad the last two dimensions at their ends."""
    height, width = tensor.shape[-2:]
    if (height, width) == size:
        return tensor
    return torch.nn.functional.pad(tensor, (0, size[1] - width, 0, size[0] - height), value=value)
