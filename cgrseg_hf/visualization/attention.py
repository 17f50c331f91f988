# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Record and draw rectangular attention, and the class weights of the dynamic prototype."""

import functools
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel
from PIL import Image
from torch import nn

from ..model.configuration_cgrseg import SIZE_DIVISOR
from ..model.geometry_cgrseg import FEATURE_STRIDES, round_up
from ..utils.modes import evaluation_mode
from .fonts import text_size_for
from .heat_maps import ColorMapName, draw_heat_map, resize_values
from .overlays import to_rgb
from .side_by_side import arrange

# A colour bar spans at least this much of attention's 0 to 1: smaller differences do not fill all of its colours.
_LEAST_SPAN = 0.1


@dataclass(frozen=True)
class RecordedAttention:
    """
    Attention of a model to a batch of images, see [`record_attention`].

    Args:
        rectangular (`dict[str, torch.Tensor]`): Rectangular attention of each rectangular self-calibration module, 0
            to 1, by the module's name and in the order of computation:
            `(batch, channels, height / stride, width / stride)`, or with one channel if they were averaged. Height and
            width are the input's, padded to multiples of 32; the stride is 64 in the pyramid context and 32, 16 and 8
            in the reconstruction.
        prototype_weights (`torch.Tensor` of shape `(batch, num_labels)`, *optional*): Share of each class in the
            dynamic prototype, 0 to 1; they add up to 1. `None` where the model has none.
        padded_size (`tuple[int, int]`): Height and width that the maps cover.
        image_sizes (`list[tuple[int, int]]`): Height and width of each image without padding.
    """

    rectangular: dict[str, torch.Tensor]
    prototype_weights: torch.Tensor | None
    padded_size: tuple[int, int]
    image_sizes: list[tuple[int, int]]

    def map_of(self, name: str, index: int = 0, channel: int | None = None) -> np.ndarray:
        """
        Resize one map of rectangular attention to its image, without padding.

        Args:
            name (`str`): One of the names in `rectangular`.
            index (`int`, *optional*, defaults to 0): Which image of the batch.
            channel (`int`, *optional*): Which channel; by default their mean.

        Returns:
            `numpy.ndarray` of shape `(height, width)` of the image in `pixel_values`, float32, resized bilinearly.

        Raises:
            ValueError: If there is no such map, image or channel.
        """
        if name not in self.rectangular:
            raise ValueError(f"No attention is named {name!r}; there are {', '.join(self.rectangular)}.")
        attention = self.rectangular[name]
        for what, position, length in (("image", index, len(attention)), ("channel", channel or 0, attention.shape[1])):
            if not 0 <= position < length:
                raise ValueError(f"There is no {what} {position}: {name} has {length}, counted from 0.")
        values = attention[index].mean(dim=0) if channel is None else attention[index, channel]
        covered = tuple(
            length * image / padded
            for length, image, padded in zip(values.shape, self.image_sizes[index], self.padded_size)
        )
        return resize_values(values.float().cpu().numpy(), self.image_sizes[index], covered)[0]


def record_attention(
    model: nn.Module,
    pixel_values: torch.Tensor,
    image_sizes: torch.LongTensor | None = None,
    average_channels: bool = False,
) -> RecordedAttention:
    """
    Run a model and record its rectangular attention and the weights of its dynamic prototype.

    The model runs in evaluation mode and without gradients. Afterwards it is as it was before.

    Args:
        model ([`CGRSegForSemanticSegmentation`] or [`CGRSegModel`]): The model as it is trained, not its form for
            inference. It may be compiled, or loaded as remote code.
        pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`): Normalised pixels, on the model's
            device.
        image_sizes (`torch.LongTensor` of shape `(batch, 2)`, *optional*): Height and width of each image without its
            padding, as the image processor returns them; by default all of `pixel_values`.
        average_channels (`bool`, *optional*, defaults to `False`): Whether to keep only the mean over channels.

    Returns:
        [`RecordedAttention`]

    Raises:
        ValueError: If the model has no rectangular self-calibration attention and no dynamic prototype.

    Example:

    ```python
    import cgrseg_hf
    from cgrseg_hf.pretrained import DEFAULT_MODEL
    from cgrseg_hf.visualization import draw_rectangular_attention, record_attention
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    photo = Image.open("photo.jpg").convert("RGB")
    model = AutoModelForSemanticSegmentation.from_pretrained(DEFAULT_MODEL)
    batch = AutoImageProcessor.from_pretrained(DEFAULT_MODEL)(photo, return_tensors="pt")
    recorded = record_attention(model, batch["pixel_values"], batch.get("image_sizes"))
    draw_rectangular_attention(photo, recorded).save("attention.png")
    ```
    """
    model = extract_model_from_parallel(model, keep_torch_compile=False)
    rectangular: dict[str, torch.Tensor] = {}
    class_weights: list[torch.Tensor] = []

    def keep_attention(module: nn.Module, inputs: tuple, output: torch.Tensor, name: str) -> None:
        attention = output.sigmoid()
        rectangular[name] = attention.mean(dim=1, keepdim=True) if average_channels else attention

    def keep_class_weights(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        class_weights.append(output.softmax(dim=1)[..., 0])

    hooks = {}
    for name, module in model.named_modules():
        # By name: the classes of remote code are others of the same name.
        if type(module).__name__ == "RectangularSelfCalibrationAttention":
            hooks[module.vertical_strip] = functools.partial(keep_attention, name=name)
        elif type(module).__name__ == "DynamicPrototypeGuidedHead" and module.use_prototype:
            hooks[module.class_score] = keep_class_weights
    if not hooks:
        raise ValueError(
            f"{type(model).__name__} has neither rectangular self-calibration attention nor a dynamic prototype: pass "
            "a CGRSeg model with these parts, and not the form that optimize_for_inference() or an export made of it."
        )
    with ExitStack() as stack:
        for module, hook in hooks.items():
            stack.enter_context(module.register_forward_hook(hook))
        stack.enter_context(evaluation_mode(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))  # compiled code would skip the hooks
        model(pixel_values)

    height, width = pixel_values.shape[-2:]
    sizes = [(height, width)] * len(pixel_values) if image_sizes is None else image_sizes.tolist()
    return RecordedAttention(
        rectangular=rectangular,
        prototype_weights=class_weights[0] if class_weights else None,
        padded_size=tuple(round_up(length, SIZE_DIVISOR) for length in (height, width)),
        image_sizes=[tuple(size) for size in sizes],
    )


def draw_rectangular_attention(
    image: Image.Image,
    recorded: RecordedAttention,
    index: int = 0,
    names: Sequence[str] | None = None,
    channel: int | None = None,
    color_map: ColorMapName = "inferno",
    max_side: int = 480,
) -> Image.Image:
    """
    Draw the rectangular attention of each module over the photo.

    Args:
        image (`PIL.Image.Image`): The photo that was recorded; it is turned as its EXIF says.
        recorded ([`RecordedAttention`]): The attention from [`record_attention`].
        index (`int`, *optional*, defaults to 0): Which image of the batch the photo is.
        names (`Sequence[str]`, *optional*): Which of the maps to draw; by default all.
        channel (`int`, *optional*): Which channel to draw; by default their mean.
        color_map (`str`, *optional*, defaults to `"inferno"`): See [`draw_heat_map`].
        max_side (`int`, *optional*, defaults to 480): Pixels of the longer side of each image, at most the photo's.

    Returns:
        `PIL.Image.Image`: a heat map with a colour bar for each module, in the order of computation. Each bar spans at
        least 0.1, so that attention that is nearly the same everywhere looks so.

    Raises:
        ValueError: If there is no such map, image or channel.
    """
    names = list(recorded.rectangular) if names is None else list(names)
    maps = {name: recorded.map_of(name, index, channel) for name in names}
    if not maps:
        raise ValueError("There is no rectangular attention to draw: this model was built without it.")
    image = to_rgb(image)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    heat_maps = [
        (_describe(name), draw_heat_map(image, values, "", *_find_range(values), color_map=color_map))
        for name, values in maps.items()
    ]
    num_columns = min(len(heat_maps), max(2, round(math.sqrt(len(heat_maps) * 1.5 * image.height / image.width))))
    return arrange(heat_maps, num_columns, text_size_for(*image.size))


def _find_range(values: np.ndarray) -> tuple[float, float]:
    """Find the lowest and highest attention of a colour bar, within 0 to 1."""
    lower, upper = float(values.min()), float(values.max())
    half = _LEAST_SPAN / 2
    middle = min(max((lower + upper) / 2, half), 1 - half)
    return min(lower, middle - half), max(upper, middle + half)


def _describe(name: str) -> str:
    """Describe a module's place in the paper's words."""
    if found := re.search(r"pyramid_context\.blocks\.(\d+)", name):
        return f"Pyramid context, module {int(found[1]) + 1}"
    if found := re.search(r"reconstruction\.calibrations\.(\d+)", name):
        return f"Reconstruction, stride {FEATURE_STRIDES[int(found[1])]}"
    return name
