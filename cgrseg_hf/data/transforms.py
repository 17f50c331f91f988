# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The training recipe's augmentation, as transforms of torchvision.

Transforms map an image `(3, height, width)`, a `tv_tensors.Image`, and its label map `(height, width)`, a
`tv_tensors.Mask`, to the same. They draw from PyTorch's generator alone, so seeding it makes a sample repeatable. No
transform invents a class id: label maps are resized to the nearest label, and padding is ignored.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F  # noqa: N812  (torchvision's own way to name it)
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def training_transforms(
    crop_size: tuple[int, int] = (512, 512),
    resize_to: tuple[int, int] = (2048, 512),
    scale_range: tuple[float, float] = (0.5, 2.0),
    max_class_share: float = 0.75,
    flip_probability: float = 0.5,
    photometric_distortion: bool = True,
    ignore_index: int = 255,
    image_mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
    image_std: Sequence[float] = IMAGENET_DEFAULT_STD,
) -> v2.Compose:
    """
    Compose the augmentation of an image and its label map, in the recipe's order.

    Args:
        crop_size (`tuple[int, int]`, *optional*, defaults to `(512, 512)`):
            Height and width in pixels of the result.
        resize_to (`tuple[int, int]`, *optional*, defaults to `(2048, 512)`):
            Bounds in pixels for the longer and the shorter side of an image at scale 1.
        scale_range (`tuple[float, float]`, *optional*, defaults to `(0.5, 2.0)`):
            Least and largest factor by which these bounds are multiplied.
        max_class_share (`float`, *optional*, defaults to 0.75):
            A crop is drawn again, up to ten times, while one class fills at least this share of its labelled pixels.
            With 1, the first crop is used.
        flip_probability (`float`, *optional*, defaults to 0.5):
            How often an image is mirrored.
        photometric_distortion (`bool`, *optional*, defaults to `True`):
            Change brightness, contrast, saturation and hue.
        ignore_index (`int`, *optional*, defaults to 255):
            Label of unlabelled pixels and of padding.
        image_mean, image_std (`Sequence[float]`, *optional*, default to ImageNet's):
            Mean and deviation of each channel for values from 0 to 1.

    Returns:
        `v2.Compose`: maps `(image, label_map)` with values 0 to 255 to `(image, label_map)` of `crop_size`. The image
        is float32, normalised, and padded below and right with 0.
    """
    return v2.Compose(
        [
            RandomFitResize(resize_to, scale_range),
            RandomCropByClassShare(crop_size, max_class_share, ignore_index),
            v2.RandomHorizontalFlip(flip_probability),
            PhotometricDistortion() if photometric_distortion else v2.Identity(),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.Normalize(image_mean, image_std),
            PadToSize(crop_size, ignore_index),
        ]
    )


class RandomFitResize(v2.Transform):
    """
    Resize to the largest size that fits within bounds times a random factor, keeping the ratio, without antialiasing.

    Args:
        bounds (`tuple[int, int]`): Pixels of the longer and of the shorter side at factor 1.
        scale_range (`tuple[float, float]`): Least and largest factor, drawn uniformly.
    """

    def __init__(self, bounds: tuple[int, int], scale_range: tuple[float, float]):
        super().__init__()
        self.longest, self.shortest = max(bounds), min(bounds)
        self.scale_range = scale_range

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size, `[height, width]` in pixels, to resize to."""
        height, width = v2.query_size(flat_inputs)
        factor = draw_uniform(*self.scale_range)
        scale = factor * min(self.longest / max(height, width), self.shortest / min(height, width))
        return {"size": [max(round(height * scale), 1), max(round(width * scale), 1)]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize the image, or the label map to the nearest labels."""
        return self._call_kernel(F.resize, inpt, params["size"], antialias=False)


class RandomCropByClassShare(v2.Transform):
    """
    Crop at random, up to ten times until no class fills too much of the crop's labelled pixels.

    Images smaller than the crop are kept whole in that direction.

    Args:
        size (`tuple[int, int]`): Height and width in pixels of the crop.
        max_class_share (`float`): The largest class has to fill less than this share, 0 to 1.
        ignore_index (`int`): Label of the pixels that do not count.
    """

    def __init__(self, size: tuple[int, int], max_class_share: float, ignore_index: int = 255):
        super().__init__()
        self.size = size
        self.max_class_share = max_class_share
        self.ignore_index = ignore_index
        self.tries = 10 if max_class_share < 1 else 1

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw top, left, height and width of the crop."""
        height, width = v2.query_size(flat_inputs)
        crop_height, crop_width = min(self.size[0], height), min(self.size[1], width)
        label_maps = [inpt for inpt in flat_inputs if isinstance(inpt, tv_tensors.Mask)]
        for _ in range(self.tries):
            top = draw_integer(height - crop_height + 1)
            left = draw_integer(width - crop_width + 1)
            if self.tries == 1 or not label_maps:
                break
            crop = label_maps[0].as_subclass(torch.Tensor)[..., top : top + crop_height, left : left + crop_width]
            if largest_class_share(crop, self.ignore_index) < self.max_class_share:
                break
        return {"top": top, "left": left, "height": crop_height, "width": crop_width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop."""
        return self._call_kernel(F.crop, inpt, **params)


class PhotometricDistortion(v2.Transform):
    """
    Change brightness, contrast, saturation and hue of an 8-bit image, each with probability 0.5.

    The recipe's distortion: unlike `v2.RandomPhotometricDistort` it adds to the brightness and never permutes
    channels. Contrast comes before or after saturation and hue, at random. Brightness changes by up to 32 grey levels,
    contrast and saturation by a factor from 0.5 to 1.5, and the hue by up to 36 degrees: the recipe's 18 are steps of
    an 8-bit hue, 2 degrees each.
    """

    _transformed_types = (tv_tensors.Image,)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the changes in their order, each a name and a strength."""
        contrast = [("contrast", draw_uniform(0.5, 1.5))] if draw_coin() else []
        contrast_comes_first = draw_coin()
        changes = [("brightness", draw_uniform(-32.0, 32.0))] if draw_coin() else []
        changes += contrast if contrast_comes_first else []
        changes += [("saturation", draw_uniform(0.5, 1.5))] if draw_coin() else []
        changes += [("hue", draw_uniform(-36.0, 36.0))] if draw_coin() else []
        changes += [] if contrast_comes_first else contrast
        return {"changes": changes}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change the image, and round down to whole numbers after each change."""
        image = inpt.as_subclass(torch.Tensor)
        for name, strength in params["changes"]:
            if name == "brightness":
                image = (image.float() + strength).clamp_(0, 255).to(torch.uint8)
            elif name == "contrast":
                image = (image.float() * strength).clamp_(0, 255).to(torch.uint8)
            elif name == "saturation":
                image = scale_saturation(image, strength)
            else:
                image = F.adjust_hue(image, strength / 360)
        return tv_tensors.wrap(image, like=inpt)


class PadToSize(v2.Transform):
    """
    Pad below and right, images with 0 and label maps with the ignored label.

    Args:
        size (`tuple[int, int]`): Height and width in pixels; larger inputs stay as they are.
        ignore_index (`int`): Label of the padding.
    """

    def __init__(self, size: tuple[int, int], ignore_index: int = 255):
        super().__init__()
        self.size = size
        self.ignore_index = ignore_index

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad the image or label map."""
        height, width = inpt.shape[-2:]
        padding = [0, 0, max(self.size[1] - width, 0), max(self.size[0] - height, 0)]
        fill = self.ignore_index if isinstance(inpt, tv_tensors.Mask) else 0
        return self._call_kernel(F.pad, inpt, padding=padding, fill=fill)


def scale_saturation(image: torch.Tensor, factor: float) -> torch.Tensor:
    """
    Multiply the saturation of HSV, at most to 1, keeping hue and value.

    In HSV the saturation is (largest - least) / largest of a pixel's channels, so scaling it scales each channel's
    distance to the largest: no conversion is needed. (3, height, width), uint8.
    """
    values = image.float()
    largest, least = values.amax(0), values.amin(0)
    # A factor beyond largest / (largest - least) would make the least channel negative.
    factors = (largest / (largest - least).clamp_(min=1)).clamp_(max=factor)
    return largest.sub((largest - values) * factors).clamp_(0, 255).to(torch.uint8)


def largest_class_share(label_map: torch.Tensor, ignore_index: int) -> float:
    """Compute the share of the labelled pixels, 0 to 1, of the commonest class; 1 if nothing is labelled."""
    labels = label_map.flatten()
    labels = labels[labels != ignore_index]
    if len(labels) == 0:
        return 1.0
    return float(torch.bincount(labels.int()).max() / len(labels))


def draw_uniform(low: float, high: float) -> float:
    """Draw a number between two bounds."""
    return low + (high - low) * torch.rand(()).item()


def draw_integer(end: int) -> int:
    """Draw a whole number from 0 to `end` - 1."""
    return int(torch.randint(end, ()))


def draw_coin() -> bool:
    """Draw True half of the time."""
    return torch.rand(()).item() < 0.5
