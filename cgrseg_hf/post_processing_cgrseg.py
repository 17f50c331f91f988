# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From logits to label maps, with the geometry of padded inputs."""

import torch

# CGRSeg's logits have one position for every 8×8 pixels of its input.
LOGITS_STRIDE = 8


def resize_logits(logits: torch.Tensor, image_size: tuple[int, int], target_size: tuple[int, int]) -> torch.Tensor:
    """
    Resize class scores to an image's size in one bilinear step that never looks at padding.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels, logits_height, logits_width)`):
            Class scores, one position for every 8×8 pixels of the model's input.
        image_size (`tuple[int, int]`):
            Height and width in pixels of the real image in the model's input, without the padding below and right
            of it. It need not divide by 8.
        target_size (`tuple[int, int]`):
            Height and width in pixels of the result.

    Returns:
        `torch.Tensor` of shape `(batch, num_labels, target_height, target_width)`.
    """
    rows, columns = (-(-length // LOGITS_STRIDE) for length in image_size)
    # interpolate() takes a size or a scale, but here the scale is not the ratio of the sizes: the last position may
    # reach beyond the image.
    scales = [LOGITS_STRIDE * target / length for target, length in zip(target_size, image_size)]
    return torch.ops.aten.upsample_bilinear2d(logits[..., :rows, :columns], list(target_size), False, *scales)


def resize_to_input(logits: torch.Tensor, input_size: tuple[int, int]) -> torch.Tensor:
    """
    Resize class scores of any model to the size of its input: by [`resize_logits`] if they have CGRSeg's stride.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels, logits_height, logits_width)`):
            Class scores.
        input_size (`tuple[int, int]`):
            Height and width in pixels of the model's input. The height may be larger than it was: Trainer pads label
            maps of unequal heights at the bottom.

    Returns:
        `torch.Tensor` of shape `(batch, num_labels, *input_size)`.
    """
    if logits.shape[-1] == -(-input_size[1] // LOGITS_STRIDE):
        return resize_logits(logits, input_size, input_size)
    return torch.nn.functional.interpolate(logits, size=input_size, mode="bilinear", align_corners=False)
