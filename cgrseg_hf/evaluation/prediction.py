# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""One image to one label map by a test protocol: whole or in windows, at one scale or several, mirrored or not.

With `EvaluationProtocol(reference=True)` the steps are those of the authors' released code. Otherwise the logits of
CGRSeg are resized in a single step that never looks at padding.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..engines import Engine, PlainEngine
from ..model.configuration_cgrseg import CGRSegConfig
from ..model.geometry_cgrseg import pad_to_size_divisor
from ..model.image_reading_cgrseg import to_photo, turn_as_seen
from ..model.post_processing_cgrseg import classify_by_class, label_map_dtype, label_map_from_logits, resize_logits

REFERENCE_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


@dataclass(frozen=True)
class EvaluationProtocol:
    """
    Steps by which a model is tested.

    Args:
        scales (`tuple[float, ...]`, *optional*, defaults to `(1.0,)`):
            Factors on the image processor's target size. The softmax of several is averaged at the image's own size.
            `REFERENCE_SCALES` has those of the released code.
        flip (`bool`, *optional*, defaults to `False`):
            Whether to average with the mirrored image too.
        slide (`bool`, *optional*, defaults to `False`):
            Whether to run windows over the resized image and average their logits where they overlap. An image that
            fits in one window is run whole.
        crop_size (`tuple[int, int]`, *optional*, defaults to `(512, 512)`):
            Height and width of a window in pixels.
        stride (`tuple[int, int]`, *optional*, defaults to `(341, 341)`):
            Steps of the windows, down and across, in pixels.
        reference (`bool`, *optional*, defaults to `False`):
            Whether to follow the released code: resize the image in its whole-number arithmetic, pad it to a multiple
            of 32, resize the logits to the padded size, cut the padding off, and resize to the image's own size. The
            image processor's `size` counts; its default is the reference's.

    Raises:
        ValueError: If scales, windows or steps are not positive, or the steps leave gaps between the windows.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    slide: bool = False
    crop_size: tuple[int, int] = (512, 512)
    stride: tuple[int, int] = (341, 341)
    reference: bool = False

    def __post_init__(self):
        for name in ("scales", "crop_size", "stride"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.scales or not all(math.isfinite(scale) and scale > 0 for scale in self.scales):
            raise ValueError(f"scales={self.scales}: give at least one factor, each above 0, such as (1.0,).")
        for name in ("crop_size", "stride"):
            lengths = getattr(self, name)
            if len(lengths) != 2 or not all(isinstance(length, int) and length > 0 for length in lengths):
                raise ValueError(f"{name}={lengths}: give height and width as two whole numbers above 0.")
        if any(step > length for step, length in zip(self.stride, self.crop_size)):
            raise ValueError(
                f"stride={self.stride} is larger than crop_size={self.crop_size}: pixels between the windows would "
                "have no prediction."
            )

    def describe(self) -> str:
        """Describe the steps in one line."""
        windows = "windows of {}×{} pixels every {}×{}".format(*self.crop_size, *self.stride)
        parts = [
            windows if self.slide else "whole image",
            f"scale{'s' if len(self.scales) > 1 else ''} {' '.join(f'{scale:g}' for scale in self.scales)}",
            *(["mirrored too"] if self.flip else []),
            "logits resized in the reference's two steps" if self.reference else "logits resized in one step",
        ]
        return ", ".join(parts)


DEFAULT_PROTOCOL = EvaluationProtocol()


@torch.inference_mode()
def predict_label_map(
    model: nn.Module | Engine,
    image: Image.Image,
    image_processor: Any,
    protocol: EvaluationProtocol = DEFAULT_PROTOCOL,
    *,
    autocast: torch.dtype | None = None,
) -> torch.Tensor:
    """
    Predict the class of every pixel of an image.

    Args:
        model (`torch.nn.Module` or [`Engine`]):
            Any model for semantic segmentation of transformers, or an engine. A model runs in the mode that it is in:
            call `eval()` first.
        image (`PIL.Image.Image`):
            The image; it is turned as its EXIF says.
        image_processor (`BaseImageProcessor`):
            The model's image processor.
        protocol (`EvaluationProtocol`, *optional*):
            By default one pass over the whole image.
        autocast (`torch.dtype`, *optional*):
            Run a model under `torch.autocast` in this type. Scores are resized and averaged in float32.

    Returns:
        `torch.Tensor` of shape `(height, width)` of the image, on the engine's device: uint8 for up to 256 classes,
        beyond that int32.

    Raises:
        ValueError: If the model's output has no logits of four dimensions.
    """
    engine = model if isinstance(model, Engine) else PlainEngine(model, autocast)
    image = turn_as_seen(image)
    size = (image.height, image.width)
    views = [(scale, flip) for scale in protocol.scales for flip in ([False, True] if protocol.flip else [False])]
    probabilities = 0
    for scale, flip in views:
        pixels, image_size = _read_pixels(image, image_processor, scale, protocol.reference)
        if flip:
            pixels = _flip(pixels, image_size)
        logits, resizing = _score(engine, pixels, image_size, size, protocol)
        if len(views) == 1:
            return resizing.classify(logits[0])
        scores = resizing.resize(logits).softmax(dim=1)
        probabilities = probabilities + (scores.flip(-1) if flip else scores)
    return probabilities[0].argmax(dim=0).to(label_map_dtype(probabilities.shape[1]))


def _read_pixels(
    image: Image.Image, image_processor: Any, scale: float, reference: bool
) -> tuple[torch.Tensor, tuple[int, int]]:
    """Make the processor's pixels (1, channels, height, width), with its padding, and return the image's size there."""
    settings: dict[str, Any] = {}
    if scale != 1:
        if getattr(image_processor, "do_resize", True):
            size = {name: length for name, length in dict(image_processor.size).items() if length}
        else:
            size = {"height": image.height, "width": image.width}
        settings = {"size": {name: max(int(length * scale), 1) for name, length in size.items()}, "do_resize": True}
    batch = image_processor(image, return_tensors="pt", **settings)
    image_size = _image_size(batch)
    if reference and image_size != (image.height, image.width):
        resized = Image.fromarray(resize_as_reference(np.asarray(to_photo(image)), image_size))
        batch = image_processor(resized, return_tensors="pt", do_resize=False)
    return batch["pixel_values"], image_size


def _image_size(batch: Any) -> tuple[int, int]:
    """Height and width of the one image in a batch; without `image_sizes`, it has no padding."""
    image_sizes = batch.get("image_sizes")
    height, width = batch["pixel_values"].shape[-2:] if image_sizes is None else image_sizes[0]
    return int(height), int(width)


def resize_as_reference(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """
    Resize bilinearly in the whole-number arithmetic of the library that the released code uses.

    About every eighth value comes out one level apart from exact rounding.

    Args:
        image (`numpy.ndarray` of shape `(height, width, channels)`, uint8):
            The image.
        size (`tuple[int, int]`):
            New height and width in pixels.

    Returns:
        `numpy.ndarray` of shape `(*size, channels)`, uint8.
    """
    (upper, lower, upper_weight, lower_weight), (left, right, left_weight, right_weight) = (
        _neighbours(length, target) for length, target in zip(image.shape[:2], size)
    )
    values = image.astype(np.int32)
    # Weights have 11 bits behind the point. Of the sum across, 7 are kept; 16 of the products down are dropped, and
    # the last 2 rounded.
    values = (values[:, left] * left_weight[:, None] + values[:, right] * right_weight[:, None]) >> 4
    above = (values[upper] * upper_weight[:, None, None]) >> 16
    below = (values[lower] * lower_weight[:, None, None]) >> 16
    return ((above + below + 2) >> 2).astype(np.uint8)


def _neighbours(length: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each new position the two old ones around it, and their weights in 2048ths; pixels have their centres."""
    positions = ((np.arange(target) + 0.5) * (length / target) - 0.5).astype(np.float32).clip(0, length - 1)
    first = np.floor(positions).astype(np.int32)
    weight = positions - first.astype(np.float32)
    weights = [np.rint(part * np.float32(2048)).astype(np.int32) for part in (1 - weight, weight)]
    return first, np.minimum(first + 1, length - 1), *weights


def _flip(pixels: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Mirror the image, and leave the padding to its right."""
    flipped = pixels.clone()
    height, width = image_size
    flipped[..., :height, :width] = pixels[..., :height, :width].flip(-1)
    return flipped


def _score(
    engine: Engine,
    pixels: torch.Tensor,
    image_size: tuple[int, int],
    target: tuple[int, int],
    protocol: EvaluationProtocol,
) -> "tuple[torch.Tensor, _Resizing]":
    """Compute logits, and say how they come to the target size."""
    if protocol.reference:
        pixels = pad_to_size_divisor(pixels[..., : image_size[0], : image_size[1]])
    covered = tuple(pixels.shape[-2:])
    frame = covered if protocol.reference else image_size
    if protocol.slide and any(length > crop for length, crop in zip(frame, protocol.crop_size)):
        logits = _slide(engine, pixels[..., : frame[0], : frame[1]], protocol)
        covered = frame
    else:
        logits = engine(pixels)
        if _resizes_in_one_step(engine, protocol):
            return logits, _Resizing(target, image_size)
    if covered == image_size and not protocol.reference:
        return logits, _Resizing(target)
    return logits, _Resizing(target, image_size, covered)


def _resizes_in_one_step(engine: Engine, protocol: EvaluationProtocol) -> bool:
    """Only CGRSeg's logits are resized straight to the image, without the padding that they cover."""
    return getattr(engine.config, "model_type", None) == CGRSegConfig.model_type and not protocol.reference


@dataclass(frozen=True)
class _Resizing:
    """
    The way of logits to an image's size, in one step or in two.

    Args:
        target (`tuple[int, int]`):
            Height and width in pixels of the image.
        image_size (`tuple[int, int]`, *optional*):
            Those of the image in the model's input, if there is padding beside it.
        covered (`tuple[int, int]`, *optional*):
            Those of all that the logits cover. If given, they are resized to this size, the image is cut out, and
            this part is resized to the target.
    """

    target: tuple[int, int]
    image_size: tuple[int, int] | None = None
    covered: tuple[int, int] | None = None

    def resize(self, scores: torch.Tensor) -> torch.Tensor:
        """Bring (batch, any number of classes, height, width) to the target size."""
        if self.covered is None:
            return resize_logits(scores, self.image_size, self.target)
        height, width = self.image_size
        return resize_logits(resize_logits(scores, None, self.covered)[..., :height, :width], None, self.target)

    def classify(self, logits: torch.Tensor) -> torch.Tensor:
        """Find the class of each pixel with the highest resized score, from (num_labels, height, width)."""
        dtype = label_map_dtype(len(logits))
        if self.covered is None:
            return label_map_from_logits(logits, self.image_size, self.target, dtype)
        return classify_by_class(logits, self.resize, dtype)


def _slide(engine: Engine, pixels: torch.Tensor, protocol: EvaluationProtocol) -> torch.Tensor:
    """Compute logits of (1, channels, height, width) pixels at their own size, averaged where windows overlap."""
    height, width = pixels.shape[-2:]
    summed, counts = None, torch.zeros(height, width, device=engine.device)
    for rows in _windows(height, protocol.crop_size[0], protocol.stride[0]):
        for columns in _windows(width, protocol.crop_size[1], protocol.stride[1]):
            window = pixels[..., rows, columns]
            window_size = tuple(window.shape[-2:])
            image_size = window_size if _resizes_in_one_step(engine, protocol) else None
            logits = resize_logits(engine(window), image_size, window_size)
            if summed is None:
                summed = logits.new_zeros(1, logits.shape[1], height, width)
            summed[..., rows, columns] += logits
            counts[rows, columns] += 1
    return summed / counts


def _windows(length: int, crop: int, stride: int) -> Iterator[slice]:
    """Windows along one side; the last one ends where the image does."""
    for start in range(0, max(length - crop, 0) + stride, stride):
        end = min(start + crop, length)
        yield slice(max(end - crop, 0), end)
