# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the model looks at: its rectangular attention, and the classes that its dynamic prototype is made of."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from ..model.configuration_cgrseg import SIZE_DIVISOR
from .colors import Color, class_colors
from .fonts import FAINT_TEXT_COLOR, TEXT_COLOR, load_font, shorten, text_size_for
from .heat_maps import ColorMapName, draw_heat_map, resize_values
from .legends import format_share
from .photos import to_rgb
from .side_by_side import arrange

_PYRAMID_CONTEXT, _RECONSTRUCTION = "pyramid_context.blocks.", "reconstruction.calibrations."
_STRIDES = (8, 16, 32)
# Of attention, 0 to 1, on a colour bar: smaller differences are not stretched to all of its colours.
_LEAST_SPAN = 0.1


@dataclass(frozen=True)
class RecordedAttention:
    """
    What a model looked at in a batch of images, see [`record_attention`].

    Args:
        rectangular (`dict[str, torch.Tensor]`):
            Rectangular attention of each rectangular self-calibration module, 0 to 1, by the module's name and in the
            order of computation: `(batch, channels, height / stride, width / stride)`, or with one channel if they were
            averaged. Height and width are the input's, padded to multiples of 32; the stride is 64 in the pyramid
            context and 32, 16 and 8 in the reconstruction.
        prototype_weights (`torch.Tensor` of shape `(batch, num_labels)`, *optional*):
            Share of each class in the dynamic prototype, 0 to 1; they add up to 1. `None` where the model has none.
        padded_size (`tuple[int, int]`):
            Height and width that the maps cover.
        image_sizes (`list[tuple[int, int]]`):
            Height and width of each image without padding.
    """

    rectangular: dict[str, torch.Tensor]
    prototype_weights: torch.Tensor | None
    padded_size: tuple[int, int]
    image_sizes: list[tuple[int, int]]

    def map_of(self, name: str, index: int = 0, channel: int | None = None) -> np.ndarray:
        """
        One map of rectangular attention over one image, padding left out.

        Args:
            name (`str`):
                One of the names in `rectangular`.
            index (`int`, *optional*, defaults to 0):
                Which image of the batch.
            channel (`int`, *optional*):
                Which channel; by default their mean.

        Returns:
            `numpy.ndarray` of shape `(height, width)` of the image in `pixel_values`, float32: resized bilinearly.

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

    The model runs in evaluation mode and without gradients, and is afterwards as it was before.

    Args:
        model ([`CGRSegForSemanticSegmentation`] or [`CGRSegModel`]):
            The model as it is trained, not its form for inference. One that was compiled or loaded as remote code will
            do.
        pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`):
            Normalised pixels, on the model's device.
        image_sizes (`torch.LongTensor` of shape `(batch, 2)`, *optional*):
            Height and width of each image without its padding, as the image processor gives them; by default all of
            `pixel_values`.
        average_channels (`bool`, *optional*, defaults to `False`):
            Whether to keep only the mean over channels.

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
    model = getattr(model, "_orig_mod", model)  # of a compiled one
    rectangular: dict[str, torch.Tensor] = {}
    class_weights: list[torch.Tensor] = []

    def keep_attention(name: str) -> Callable:
        def keep(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            attention = output.detach().sigmoid()
            rectangular[name] = attention.mean(dim=1, keepdim=True) if average_channels else attention

        return keep

    def keep_class_weights(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        class_weights.append(output.detach().softmax(dim=1)[..., 0])

    hooks = {}
    for name, module in model.named_modules():
        # By name: the classes of remote code are others of the same name.
        if type(module).__name__ == "RectangularSelfCalibrationAttention":
            hooks[module.vertical_strip] = keep_attention(name)
        elif type(module).__name__ == "DynamicPrototypeGuidedHead" and module.use_prototype:
            hooks[module.class_score] = keep_class_weights
    if not hooks:
        raise ValueError(
            f"{type(model).__name__} has neither rectangular self-calibration attention nor a dynamic prototype: pass "
            "a CGRSeg model with these parts, and not the form that optimize_for_inference() or an export made of it."
        )
    with _watched(model, hooks), torch.no_grad(), _uncompiled():
        model(pixel_values)

    height, width = pixel_values.shape[-2:]
    sizes = [(height, width)] * len(pixel_values) if image_sizes is None else image_sizes.tolist()
    return RecordedAttention(
        rectangular=rectangular,
        prototype_weights=class_weights[0] if class_weights else None,
        padded_size=tuple(-(-length // SIZE_DIVISOR) * SIZE_DIVISOR for length in (height, width)),
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
    Lay the rectangular attention of each module over the photo.

    Args:
        image (`PIL.Image.Image`):
            The photo that was recorded; it is turned as its EXIF says.
        recorded ([`RecordedAttention`]):
            What [`record_attention`] returned.
        index (`int`, *optional*, defaults to 0):
            Which image of the batch the photo is.
        names (`Sequence[str]`, *optional*):
            Which of the maps to draw; by default all.
        channel (`int`, *optional*):
            Which channel to draw; by default their mean.
        color_map (`str`, *optional*, defaults to `"inferno"`):
            See [`draw_heat_map`].
        max_side (`int`, *optional*, defaults to 480):
            Pixels of the longer side of each picture, no more than the photo has.

    Returns:
        `PIL.Image.Image`: a heat map for each module in the order of computation, each with a colour bar of its own.
            The bar spans 0.1 at least, so that attention that is nearly the same everywhere looks so.

    Raises:
        ValueError: If there is no such map, image or channel.
    """
    names = list(recorded.rectangular) if names is None else list(names)
    maps = {name: recorded.map_of(name, index, channel) for name in names}
    if not maps:
        raise ValueError("There is no rectangular attention to draw: this model was built without it.")
    image = to_rgb(image)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    pictures = [
        (_describe(name), draw_heat_map(image, values, "", *_find_range(values), color_map=color_map))
        for name, values in maps.items()
    ]
    num_columns = min(len(pictures), max(2, round(math.sqrt(len(pictures) * 1.5 * image.height / image.width))))
    return arrange(pictures, num_columns, text_size_for(*image.size))


def _find_range(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest attention on a colour bar, which lie within 0 to 1."""
    lower, upper = float(values.min()), float(values.max())
    missing = max(_LEAST_SPAN - (upper - lower), 0)
    lower = min(max(lower - missing / 2, 0), 1 - _LEAST_SPAN) if missing else lower
    return lower, max(upper, lower + _LEAST_SPAN)


def draw_prototype_weights(
    weights: np.ndarray | torch.Tensor,
    id2label: Mapping[int, str],
    colors: str | Sequence[Color] | None = None,
    max_classes: int = 12,
) -> Image.Image:
    """
    Draw the share of each class in the dynamic prototype as bars.

    Args:
        weights (`numpy.ndarray` or `torch.Tensor` of shape `(num_labels,)`):
            One image's row of [`RecordedAttention`]'s `prototype_weights`.
        id2label (`Mapping[int, str]`):
            Names of the classes.
        colors (`str` or `Sequence[tuple[int, int, int]]`, *optional*):
            Colours of the classes by id, or the name of a palette: see [`class_colors`].
        max_classes (`int`, *optional*, defaults to 12):
            Classes that get a bar, the largest first; what is left is written below.

    Returns:
        `PIL.Image.Image`: the bars with names and percentages.

    Raises:
        ValueError: If there are not as many weights as classes.
    """
    weights = np.asarray(weights.float().cpu() if isinstance(weights, torch.Tensor) else weights)
    if weights.shape != (len(id2label),):
        raise ValueError(
            f"Got weights of shape {weights.shape}, but ({len(id2label)},) is expected: those of one image, one for "
            "each class."
        )
    colors = class_colors(id2label, colors)
    size, line, longest = 14, 24, 260
    order = np.argsort(-weights, kind="stable")[:max_classes].tolist()
    left_out = len(weights) - len(order)
    rest = f"{left_out} more classes  {format_share(max(0.0, 1 - weights[order].sum()))}" if left_out else ""
    font = load_font(size, [id2label[class_id] for class_id in order])
    names = {class_id: shorten(id2label[class_id], font, 16 * size) for class_id in order}
    name_right = size + max(font.getlength(name) for name in names.values())
    left = round(name_right + 0.8 * size)
    picture = Image.new("RGB", (left + longest + 5 * size, line * (len(order) + bool(rest)) + size), "white")
    draw = ImageDraw.Draw(picture)
    for row, class_id in enumerate(order):
        middle = size / 2 + (row + 0.5) * line
        right = left + max(1, round(longest * weights[class_id] / max(weights.max(), 1e-12)))
        draw.text((name_right, middle), names[class_id], fill=TEXT_COLOR, font=font, anchor="rm")
        draw.rectangle((left, middle - 8, right, middle + 8), fill=colors[class_id], outline=(128, 132, 138))
        share = format_share(float(weights[class_id]))
        draw.text((right + 0.5 * size, middle), share, fill=FAINT_TEXT_COLOR, font=font, anchor="lm")
    draw.text((left, size / 2 + (len(order) + 0.5) * line), rest, fill=FAINT_TEXT_COLOR, font=font, anchor="lm")
    return picture


@contextmanager
def _watched(model: nn.Module, hooks: Mapping[nn.Module, Callable]) -> Iterator[None]:
    """Evaluation mode with these forward hooks; afterwards without, every module in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        model.eval()
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode


def _uncompiled() -> AbstractContextManager:
    """Run as written what was compiled, which knows nothing of later hooks."""
    if "torch._dynamo" not in sys.modules:  # nothing was, and the compiler takes seconds to import
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def _describe(name: str) -> str:
    """A module's place in the paper's words."""
    if _PYRAMID_CONTEXT in name:
        number = int(name.split(_PYRAMID_CONTEXT)[1].split(".")[0])
        return f"Pyramid context, module {number + 1}"
    if _RECONSTRUCTION in name:
        scale = int(name.split(_RECONSTRUCTION)[1].split(".")[0])
        return f"Reconstruction, stride {_STRIDES[scale]}"
    return name
