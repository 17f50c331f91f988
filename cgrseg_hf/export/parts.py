# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What an exported file is made of, in order: picture to pixels, pixels to logits, logits to label map.

Each part is a module that exporters and tracers can read at sizes yet unknown: heights and widths stay symbols, and
nothing branches on them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.image_utils import PILImageResampling

from ..model.configuration_cgrseg import SIZE_DIVISOR
from ..model.geometry_cgrseg import LOGITS_STRIDE, get_logits_size
from ..model.image_processing_cgrseg import CGRSegImageProcessingMixin
from ..model.post_processing_cgrseg import label_map_dtype

_MODES = {PILImageResampling.BILINEAR: "bilinear", PILImageResampling.BICUBIC: "bicubic"}


@dataclass
class Parts:
    """
    The parts of one export, in order.

    Args:
        network ([`Network`]): Pixels to logits.
        preparation ([`PicturePreparation`], *optional*): Picture to pixels.
        label_map ([`LabelMap`], *optional*): Logits to label map.
        num_channels (`int`): Channels of the pixels.
        num_labels (`int`): Number of classes.
    """

    network: "Network"
    preparation: "PicturePreparation | None"
    label_map: "LabelMap | None"
    num_channels: int
    num_labels: int

    def named(self) -> list[tuple[str, nn.Module]]:
        """Name and module of each part that there is."""
        named = [("preparation", self.preparation), ("network", self.network), ("label_map", self.label_map)]
        return [(name, part) for name, part in named if part is not None]

    def inputs(self, name: str) -> list[str]:
        """What a part takes, in the order of its arguments."""
        if name == "label_map":
            return ["logits", "pixel_values", *(["image"] if self.preparation else [])]
        return ["image"] if name == "preparation" else ["pixel_values"]

    def output(self, name: str) -> str:
        """What a part gives."""
        return {"preparation": "pixel_values", "network": "logits", "label_map": "labels"}[name]

    def examples(self, size: tuple[int, int] | None) -> dict[str, torch.Tensor]:
        """An example of every input and output, in which no two lengths are equal by chance unless `size` is given."""
        batch = 1 if size else 2
        # Odd numbers of positions at stride 32 are the general case: pooling windows are of unequal sizes.
        height, width = size or (544, 608)
        image = torch.zeros(batch, height, width, self.num_channels, dtype=torch.uint8)
        if self.preparation is not None and size is not None:
            pixel_values = self.preparation(image)
        else:
            pixel_values = torch.zeros(batch, self.num_channels, height, width)
        rows, columns = get_logits_size(pixel_values.shape[-2:])
        logits = torch.zeros(batch, self.num_labels, rows, columns)
        return {"image": image, "pixel_values": pixel_values, "logits": logits}


class Whole(nn.Module):
    """
    All parts in one module.

    Args:
        parts ([`Parts`]): The parts.
    """

    def __init__(self, parts: Parts):
        super().__init__()
        self.preparation, self.network, self.label_map = parts.preparation, parts.network, parts.label_map

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Pixels or pictures to logits or label maps."""
        pixel_values = inputs if self.preparation is None else self.preparation(inputs)
        logits = self.network(pixel_values)
        if self.label_map is None:
            return logits
        return self.label_map(logits, pixel_values, None if self.preparation is None else inputs)


class Network(nn.Module):
    """
    The model itself, float32 in and out whatever its own type.

    Args:
        model (`nn.Module`): A semantic segmentation model of transformers.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to logits (batch, num_labels, rows, columns)."""
        return self.model(pixel_values.to(self.model.dtype)).logits.float()


class PicturePreparation(nn.Module):
    """
    What the image processor does to pictures of one size: resize, rescale and normalise; the network pads by itself.

    Args:
        image_processor (`CGRSegImageProcessor` or `CGRSegImageProcessorPil`): Whose settings are taken.

    Raises:
        ValueError: If a setting has no counterpart in the exported formats.
    """

    def __init__(self, image_processor: Any):
        super().__init__()
        if not isinstance(image_processor, CGRSegImageProcessingMixin):
            raise ValueError(
                f"include_preprocessing knows CGRSeg's image processors, not {type(image_processor).__name__}: export "
                "without it, and prepare pixels outside the graph."
            )
        settings = image_processor
        if settings.do_resize and (settings.antialias or settings.resample not in _MODES):
            raise ValueError(
                "include_preprocessing resizes bilinearly (resample=2) or bicubically (3) without antialias; the image "
                f"processor has resample={settings.resample} and antialias={settings.antialias}: export without it."
            )
        if settings.do_pad and (settings.pad_size is not None or SIZE_DIVISOR % settings.size_divisor):
            raise ValueError(
                f"include_preprocessing pads to multiples of {SIZE_DIVISOR} pixels; the image processor has "
                f"size_divisor={settings.size_divisor} and pad_size={settings.pad_size}: export without it."
            )
        self.size = settings.size if settings.do_resize else None
        self.mode = _MODES.get(settings.resample)
        scale = settings.rescale_factor if settings.do_rescale else 1.0
        mean, std = (settings.image_mean, settings.image_std) if settings.do_normalize else (0.0, 1.0)
        self.register_buffer("mean", _per_channel(mean) / scale)
        self.register_buffer("std", _per_channel(std) / scale)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """uint8 (batch, height, width, 3) to normalised pixels (batch, 3, resized height, resized width)."""
        pixels = image.permute(0, 3, 1, 2).float()
        if self.size is not None:
            size = _resized_size(image.shape[1], image.shape[2], self.size)
            pixels = nn.functional.interpolate(pixels, size=size, mode=self.mode, align_corners=False)
            pixels = pixels.round().clamp(0, 255)
        return (pixels - self.mean) / self.std


class LabelMap(nn.Module):
    """
    Logits to the best class of every pixel, in one bilinear step that never looks at padding.

    A class whose highest position in each cell of four lies below the lowest of another there can win nowhere: it is
    left out before anything is resized. Of 150 classes, few are left on a photo.
    """

    def forward(
        self, logits: torch.Tensor, pixel_values: torch.Tensor, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        Make a label map.

        Args:
            logits (`torch.Tensor` of shape `(batch, num_labels, rows, columns)`): The network's logits.
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`): The network's input.
            image (`torch.Tensor` of shape `(batch, image height, image width, 3)`, *optional*): The picture that the
                input was made from.

        Returns:
            `torch.Tensor` of the height and width of `image`, or else of `pixel_values`, `(batch, height, width)`:
            uint8 for up to 256 classes, beyond that int32.
        """
        num_labels = logits.shape[1]
        lengths = pixel_values.shape[-2:]
        targets = lengths if image is None else image.shape[1:3]
        classes = _classes_that_can_win(logits)
        scores = logits.index_select(1, classes).permute(0, 2, 3, 1)  # engines copy whole vectors of classes
        for dimension, (length, target) in enumerate(zip(lengths, targets), start=1):
            scores = _resize_along(scores, dimension, length, target)
        labels = classes.index_select(0, scores.argmax(dim=-1).flatten())
        return labels.to(label_map_dtype(num_labels)).view(scores.shape[:-1])


def find_num_channels(config: PreTrainedConfig) -> int:
    """Channels of the pixels that a model takes, by its configuration or its backbone's."""
    return getattr(getattr(config, "backbone_config", None) or config, "num_channels", 3)


def _classes_that_can_win(logits: torch.Tensor) -> torch.Tensor:
    """The numbers of the classes of (batch, num_labels, rows, columns) that are the highest anywhere in any cell."""
    padded = nn.functional.pad(logits, (0, 1, 0, 1), mode="replicate")
    highest = nn.functional.max_pool2d(padded, kernel_size=2, stride=1)
    lowest = -nn.functional.max_pool2d(-padded, kernel_size=2, stride=1)
    can_win = highest >= lowest.amax(dim=1, keepdim=True)
    (classes,) = can_win.any(dim=3).any(dim=2).any(dim=0).nonzero(as_tuple=True)
    return classes


def _resize_along(scores: torch.Tensor, dimension: int, length: int, target: int) -> torch.Tensor:
    """
    Resize one dimension bilinearly, with its positions at every eighth of `length` pixels, to `target` pixels.
    """
    last = scores.shape[dimension] - 1
    position = (torch.arange(target, device=scores.device) + 0.5) * (length / (target * LOGITS_STRIDE)) - 0.5
    position = position.clamp(min=0)
    before = position.floor()
    weight = (position - before).view([-1 if axis == dimension else 1 for axis in range(scores.ndim)])
    first, second = (
        scores.index_select(dimension, index.clamp(max=last)) for index in (before.long(), before.long() + 1)
    )
    return first + (second - first) * weight


def _per_channel(values: float | Sequence[float]) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1, 1)


def _resized_size(height: int, width: int, size: Any) -> tuple[int, int]:
    """
    [`get_output_size`] in whole numbers and without branches, for heights and widths that are symbols.
    """
    if size.height and size.width:
        return size.height, size.width
    bounds = []
    if size.shortest_edge:
        bounds.append((size.shortest_edge, _minimum(height, width)))
    if size.longest_edge:
        bounds.append((size.longest_edge, -_minimum(-height, -width)))
    if size.max_height and size.max_width:
        bounds += [(size.max_height, height), (size.max_width, width)]
    resized = []
    for length in (height, width):
        lengths = [(2 * length * bound + edge) // (2 * edge) for bound, edge in bounds]  # rounded, .5 up
        shortest = lengths[0]
        for other in lengths[1:]:
            shortest = _minimum(shortest, other)
        resized.append(-_minimum(-shortest, -1))
    return tuple(resized)


def _minimum(first: int, second: int) -> int:
    """The smaller of two numbers, symbols of torch.export, or tensors as which tracing sees sizes."""
    if torch.jit.is_tracing():
        return torch.minimum(torch.as_tensor(first), torch.as_tensor(second))
    return torch.sym_min(first, second)
