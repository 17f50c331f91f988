# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Image processing for CGRSeg: images to padded pixel tensors, logits to label maps.

The two classes differ in what they need and hand out: `CGRSegImageProcessor` needs torchvision, takes a device and
gives tensors, `CGRSegImageProcessorPil` needs Pillow alone and gives arrays. The pixels are the same.
"""

import base64
import difflib
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, TensorType
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
    is_valid_image,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import logging

from .geometry_cgrseg import LOGITS_STRIDE, get_logits_size, get_padded_size, pad_to_size
from .image_reading_cgrseg import is_path, open_image, to_native, to_pixels, turn_as_seen
from .post_processing_cgrseg import label_map_from_logits, resize_logits

logger = logging.get_logger(__name__)

_SECONDS_TO_FETCH = 60

_INTERPOLATION_MODES = {
    PILImageResampling.NEAREST: "nearest-exact",
    PILImageResampling.BILINEAR: "bilinear",
    PILImageResampling.BICUBIC: "bicubic",
}


class CGRSegImageProcessorKwargs(ImagesKwargs, total=False):
    r"""
    antialias (`bool`, *optional*, defaults to `self.antialias`):
        Whether to smooth while making an image smaller. CGRSeg was trained without.
    size_divisor (`int`, *optional*, defaults to `self.size_divisor`):
        Height and width are padded to multiples of this many pixels.
    do_reduce_labels (`bool`, *optional*, defaults to `self.do_reduce_labels`):
        Whether to make label 0 the ignored label and lower all others by one, as ADE20K needs it.
    ignore_index (`int`, *optional*, defaults to `self.ignore_index`):
        The ignored label, also that of padding.
    num_labels (`int`, *optional*, defaults to `self.num_labels`):
        Number of classes. If set, a label map with any other label is refused.
    """

    antialias: bool
    size_divisor: int
    do_reduce_labels: bool
    ignore_index: int
    num_labels: int | None


class CGRSegImageProcessingMixin:
    """What both image processors do, on (channels, height, width) tensors."""

    _auto_class = "AutoImageProcessor"
    valid_kwargs = CGRSegImageProcessorKwargs
    model_input_names = ["pixel_values", "image_sizes"]

    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 512, "longest_edge": 2048}
    default_to_square = False
    resample = PILImageResampling.BILINEAR
    antialias = False
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    do_pad = True
    size_divisor = 32
    do_reduce_labels = False
    ignore_index = 255
    num_labels = None

    def __init__(self, **kwargs: Unpack[CGRSegImageProcessorKwargs]):
        settings = self.valid_kwargs.__annotations__
        for name in kwargs.keys() - settings.keys():
            # transformers keeps unknown names as attributes, and a slip of the pen would go unnoticed.
            if close := difflib.get_close_matches(name, settings, n=1, cutoff=0.8):
                logger.warning("%s has no setting %s: did you mean %s?", type(self).__name__, name, close[0])
        super().__init__(**kwargs)

    def preprocess(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None = None,
        **kwargs: Unpack[CGRSegImageProcessorKwargs],
    ) -> BatchFeature:
        r"""
        Turn images into a batch for the model.

        Args:
            images (`ImageInput`):
                An image or several, of any sizes: paths, PIL images, arrays or tensors, or one array of frames
                `(frames, height, width, channels)`. PIL images and files come out as a person sees them: rotated as
                their EXIF says, transparency on white, grey, palette, CMYK and 16-bit images as RGB. Integers go
                from 0 to 255, or to 65535 as uint16. Floats go from 0 to 1 if no value is above 1, otherwise to 255.
                With `do_rescale=False`, values are final.
            segmentation_maps (`ImageInput`, *optional*):
                As many label maps, of the images' heights and widths as a person sees them: PIL images (of their
                palette, the ids count), arrays or tensors `(height, width)` of whole numbers.
            **kwargs ([`CGRSegImageProcessorKwargs`], *optional*):
                Settings for this call only. `size` is `{"shortest_edge", "longest_edge"}` for the largest size that
                fits within both and keeps the ratio, or `{"height", "width"}`.

        Returns:
            `BatchFeature`: `pixel_values` `(batch, channels, height, width)`, normalised and padded below and right
            with 0 to a common multiple of `size_divisor`; `image_sizes` `(batch, 2)`, each image's height and width
            in them without padding; and with `segmentation_maps`, `labels` `(batch, height, width)`, int64, padded
            with `ignore_index`.

        Raises:
            OSError: If there is no such file, or it may not be read.
            ValueError: If a file is not an image or damaged, or an array has no pixels, other channels than there
                are means, or values that are not brightness, such as NaN; or if a label map does not fit its image, or
                holds fractions, negative labels, or, with `num_labels`, labels that do not exist.
        """
        return super().preprocess(images, segmentation_maps, **kwargs)

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """Open paths and URLs as PIL images; leave everything else as it is."""
        if isinstance(image_url_or_urls, list | tuple):
            return [self.fetch_images(item) for item in image_url_or_urls]
        if isinstance(image_url_or_urls, str) and image_url_or_urls.startswith(("http://", "https://", "data:")):
            return open_image(_fetch(image_url_or_urls))
        if is_path(image_url_or_urls):
            return open_image(image_url_or_urls)
        if is_valid_image(image_url_or_urls):
            return image_url_or_urls
        raise TypeError(
            f"Got a {type(image_url_or_urls).__name__} for an image: pass a path, PIL image, NumPy array or tensor, or "
            "a list of them."
        )

    def _prepare_images_structure(self, images: ImageInput, expected_ndims: int = 3) -> list:
        if flat := flatten_images(self.fetch_images(images)):
            return flat
        raise ValueError("There are no images: pass at least one.")

    def process_image(
        self,
        image: ImageInput,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        num_channels: int = 3,
        do_rescale: bool | None = None,
        rescale_factor: float = 1 / 255,
        device: "str | torch.device | None" = None,
        **kwargs,
    ) -> torch.Tensor:
        """Convert one image to a tensor (channels, height, width)."""
        pixels = to_pixels(
            image, num_channels, bool(do_convert_rgb), bool(do_rescale), rescale_factor, input_data_format
        )
        return pixels.contiguous().to(device="cpu" if self.backend == "pil" else device)

    def _preprocess_image_like_inputs(
        self,
        images: ImageInput,
        segmentation_maps: ImageInput | None,
        do_convert_rgb: bool,
        input_data_format: str | ChannelDimension | None,
        return_tensors: str | TensorType | None,
        image_mean: float | Sequence[float] | None,
        device: "str | torch.device | None" = None,
        **kwargs,
    ) -> BatchFeature:
        images = self._prepare_image_like_inputs(
            images,
            do_convert_rgb=do_convert_rgb,
            input_data_format=input_data_format,
            num_channels=len(image_mean) if isinstance(image_mean, Sequence) else 3,
            do_rescale=kwargs["do_rescale"],
            rescale_factor=kwargs["rescale_factor"],
            device=device,
        )
        if kwargs["do_normalize"]:
            check_channels(images, image_mean)
        label_maps = None
        if segmentation_maps is not None:
            label_maps = self._prepare_label_maps(segmentation_maps, images, **kwargs)
        data = self._preprocess(images, label_maps, image_mean=image_mean, **kwargs)
        if self.backend == "pil":
            data = {name: [np.asarray(item) for item in items] for name, items in data.items()}
        return BatchFeature(data=data, tensor_type=return_tensors)

    def _prepare_label_maps(
        self,
        segmentation_maps: ImageInput,
        images: list[torch.Tensor],
        do_reduce_labels: bool,
        ignore_index: int,
        num_labels: int | None,
        **kwargs,
    ) -> list[torch.Tensor]:
        """Label maps (height, width), int64, with the model's own ids."""
        if num_labels is not None and 0 <= ignore_index < num_labels:
            raise ValueError(
                f"ignore_index={ignore_index} is also the number of one of the num_labels={num_labels} classes: use a "
                "label that is no class, for instance -100, here and in the model's configuration."
            )
        maps = self.fetch_images(segmentation_maps)
        if not isinstance(maps, list):
            # One array for one picture is its map, whatever its shape; for several, it holds a map for each.
            maps = [maps] if len(images) == 1 or isinstance(maps, Image.Image) else list(maps)
        if len(maps) != len(images):
            raise ValueError(f"There are {len(images)} images but {len(maps)} segmentation maps: pass one for each.")
        label_maps = []
        for index, (label_map, image) in enumerate(zip(maps, images)):
            label_map = label_map_to_tensor(label_map, index, ignore_index)
            if label_map.shape != image.shape[-2:]:
                raise ValueError(
                    f"Image {index} has height and width {tuple(image.shape[-2:])} but its segmentation map "
                    f"{tuple(label_map.shape)}: they must be equal."
                )
            if do_reduce_labels:
                label_map = reduce_labels(label_map, index, ignore_index)
            if num_labels is not None:
                check_labels(label_map, index, num_labels, ignore_index)
            label_maps.append(label_map)
        return label_maps

    def _preprocess(
        self,
        images: list[torch.Tensor],
        label_maps: list[torch.Tensor] | None,
        do_resize: bool,
        size: SizeDict,
        resample: PILImageResampling | int,
        antialias: bool,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: float | Sequence[float] | None,
        image_std: float | Sequence[float] | None,
        do_pad: bool,
        pad_size: SizeDict | None,
        size_divisor: int,
        ignore_index: int,
        **kwargs,
    ) -> dict[str, list]:
        if do_resize:
            sizes = [get_output_size(tuple(image.shape[-2:]), size) for image in images]
            images = [resize_image(image, size, resample, antialias) for image, size in zip(images, sizes)]
            if label_maps is not None:
                label_maps = [resize_label_map(label_map, size) for label_map, size in zip(label_maps, sizes)]
        image_sizes = [tuple(image.shape[-2:]) for image in images]

        scale = rescale_factor if do_rescale else 1.0
        mean, std = (image_mean, image_std) if do_normalize else (0.0, 1.0)
        images = [normalize_image(image, scale, mean, std) for image in images]
        if do_pad:
            padded_size = get_padded_size(image_sizes, size_divisor, pad_size)
            images = [pad_to_size(image, padded_size, 0) for image in images]
            if label_maps is not None:
                label_maps = [pad_to_size(label_map, padded_size, ignore_index) for label_map in label_maps]
        data = {"pixel_values": images, "image_sizes": image_sizes}
        return data if label_maps is None else {**data, "labels": label_maps}

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: "Sequence[tuple[int, int]] | torch.Tensor | None" = None,
        return_segmentation_scores: bool = False,
    ) -> list[torch.Tensor] | list[SemanticSegmentationPostProcessorOutput]:
        r"""
        Turn the model's output into label maps, in one bilinear step from the logits and without the padding.

        Args:
            outputs ([`CGRSegSemanticSegmenterOutput`]):
                The model's output. If it has no `image_sizes`, its whole input is taken for the image.
            target_sizes (`list[tuple[int, int]]` or `torch.Tensor` of shape `(batch, 2)`, *optional*):
                Height and width of each map, usually those of the original images as a person sees them (see
                `PIL.ImageOps.exif_transpose`). By default the maps keep the logits' resolution, an eighth of the
                model's input.
            return_segmentation_scores (`bool`, *optional*, defaults to `False`):
                Whether to return the class scores too.

        Returns:
            `list[torch.Tensor]`: for each image, the class of every pixel, `(height, width)`, int64; or with
            `return_segmentation_scores` a list of `SemanticSegmentationPostProcessorOutput` with `segmentation` and
            `segmentation_scores` `(num_labels, height, width)`, before softmax.

        Raises:
            ValueError: If there are other than one target size an image.
        """
        logits = outputs.logits
        if target_sizes is not None and len(target_sizes) != len(logits):
            raise ValueError(f"There are {len(logits)} images but {len(target_sizes)} target_sizes: pass one for each.")
        image_sizes = getattr(outputs, "image_sizes", None)
        if image_sizes is None:
            image_sizes = [[length * LOGITS_STRIDE for length in logits.shape[-2:]]] * len(logits)
        results = []
        for index in range(len(logits)):
            image_size = tuple(int(length) for length in image_sizes[index])
            target_size = None if target_sizes is None else tuple(int(length) for length in target_sizes[index])
            if target_size is not None and not return_segmentation_scores:
                results.append(label_map_from_logits(logits[index], image_size, target_size))
                continue
            if target_size is None:
                rows, columns = get_logits_size(image_size)
                scores = logits[index, :, :rows, :columns]
            else:
                scores = resize_logits(logits[index : index + 1].float(), image_size, target_size)[0]
            segmentation = scores.argmax(dim=0)
            if return_segmentation_scores:
                segmentation = SemanticSegmentationPostProcessorOutput(
                    data={"segmentation": segmentation, "segmentation_scores": scores}
                )
            results.append(segmentation)
        return results

    def to_dict(self) -> dict[str, Any]:
        """The settings, with both classes under `auto_map`: a saved folder loads with torchvision or without."""
        settings = super().to_dict()
        module = "image_processing_cgrseg"
        settings["auto_map"] = {
            "AutoImageProcessor": {
                "torchvision": f"{module}.CGRSegImageProcessor",
                "pil": f"{module}.CGRSegImageProcessorPil",
            }
        }
        return settings


class CGRSegImageProcessor(CGRSegImageProcessingMixin, TorchvisionBackend):
    r"""
    Image processor for CGRSeg that hands out tensors; needs torchvision and takes a `device`.

    Images are resized to fit within 2048×512 pixels keeping their ratio, without antialiasing, normalised by the
    means and deviations of ImageNet, and padded below and right with 0 to multiples of 32.
    """


class CGRSegImageProcessorPil(CGRSegImageProcessingMixin, PilBackend):
    r"""
    Image processor for CGRSeg that hands out arrays; needs Pillow but no torchvision.

    Images are resized to fit within 2048×512 pixels keeping their ratio, without antialiasing, normalised by the
    means and deviations of ImageNet, and padded below and right with 0 to multiples of 32.
    """


def _fetch(url: str) -> BytesIO:
    """Fetch the bytes of a URL: `open_image` then accepts the same formats as of files."""
    if url.startswith("data:"):
        return BytesIO(base64.b64decode(url.partition(",")[2]))
    import httpx  # as transformers does; only URLs need it

    response = httpx.get(url, timeout=_SECONDS_TO_FETCH, follow_redirects=True)
    response.raise_for_status()
    return BytesIO(response.content)


def flatten_images(images: Any) -> list:
    """Return the images in nested lists and out of arrays of four dimensions, which hold several."""
    if isinstance(images, list):
        return [image for item in images for image in flatten_images(item)]
    if isinstance(images, Image.Image) or images.ndim in (2, 3):
        return [images]
    if images.ndim == 4:
        return list(images)
    raise ValueError(f"Got an array of shape {tuple(images.shape)}: pass 2 or 3 dimensions, or 4 for a batch.")


def check_channels(images: Sequence[torch.Tensor], image_mean: float | Sequence[float] | None) -> None:
    """Refuse images (channels, height, width) of another number of channels than there are means."""
    num_means = len(image_mean) if isinstance(image_mean, Sequence) else 1
    for image in images:
        if len(image) != num_means and 1 not in (len(image), num_means):
            raise ValueError(
                f"An image has {len(image)} channels, height {image.shape[1]} and width {image.shape[2]}, but "
                f"image_mean {num_means} values: check input_data_format, or set image_mean and image_std for its "
                "channels."
            )


def label_map_to_tensor(label_map: ImageInput, index: int, ignore_index: int) -> torch.Tensor:
    """A label map as a (height, width) tensor of its own, int64, without fractions and negative labels."""
    if isinstance(label_map, Image.Image):
        if label_map.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise ValueError(
                f"Segmentation map {index} is an image of mode {label_map.mode!r}, whose pixels are colours, not "
                "class ids: convert it to one channel of ids first."
            )
        label_map = np.array(turn_as_seen(label_map))
    values = label_map if isinstance(label_map, torch.Tensor) else torch.as_tensor(to_native(np.array(label_map)))
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values.squeeze(0 if values.shape[0] == 1 else -1)
    if values.ndim != 2:
        raise ValueError(
            f"Segmentation map {index} has shape {tuple(values.shape)}, but (height, width) of class ids is expected; "
            "the colours of an image are not ids."
        )
    if values.dtype in (torch.uint16, torch.uint32, torch.uint64):  # PyTorch compares these with no other type
        values = values.to(torch.int64)
    labels = values.to(torch.int64, copy=True)
    wrong = (labels != values) | ((labels < 0) & (labels != ignore_index))
    if wrong.any():
        raise ValueError(
            f"Segmentation map {index} holds {values[wrong].unique().tolist()[:10]}, but labels are whole numbers from "
            f"0 on or the ignored label {ignore_index}."
        )
    return labels


def reduce_labels(label_map: torch.Tensor, index: int, ignore_index: int) -> torch.Tensor:
    """Label 0 becomes the ignored label, which stays as it is, and all others are lowered by one."""
    if ignore_index >= 0 and (ignore_index == 0 or (label_map == ignore_index + 1).any()):
        raise ValueError(
            f"Segmentation map {index}: reducing labels would make a class the ignored label {ignore_index}: set "
            "ignore_index to a label that is no class, for instance -100, here and in the model's configuration."
        )
    ignored = (label_map == 0) | (label_map == ignore_index)
    return torch.where(ignored, ignore_index, label_map - 1)


def check_labels(label_map: torch.Tensor, index: int, num_labels: int, ignore_index: int) -> None:
    """Refuse labels that are neither a class nor the ignored label."""
    wrong = ((label_map < 0) | (label_map >= num_labels)) & (label_map != ignore_index)
    if wrong.any():
        raise ValueError(
            f"Segmentation map {index} holds the labels {label_map[wrong].unique().tolist()[:10]}, but there are "
            f"num_labels={num_labels} classes (0 to {num_labels - 1}) and the ignored label {ignore_index}. Map the "
            "ids, or set do_reduce_labels where 0 stands for unlabelled."
        )


def get_output_size(image_size: tuple[int, int], size: SizeDict) -> tuple[int, int]:
    """
    Height and width to resize to, in pixels.

    With both a shortest and a longest edge, the largest size that keeps the ratio, whose shorter side is at most the
    one and whose longer side at most the other; it is rounded to the nearest pixel, as in the reference.
    """
    height, width = image_size
    if size.height and size.width:
        return size.height, size.width
    bounds = []
    if size.shortest_edge:
        bounds.append(size.shortest_edge / min(height, width))
    if size.longest_edge:
        bounds.append(size.longest_edge / max(height, width))
    if size.max_height and size.max_width:
        bounds += [size.max_height / height, size.max_width / width]
    if not bounds:
        raise ValueError(
            f"size={dict(size)} is not understood: give 'height' and 'width', 'shortest_edge' and/or 'longest_edge', "
            "or 'max_height' and 'max_width'."
        )
    scale = min(bounds)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize_image(
    image: torch.Tensor, size: tuple[int, int], resample: PILImageResampling | int, antialias: bool
) -> torch.Tensor:
    """Resize (channels, height, width) in float32; whole numbers come back rounded in their own type."""
    mode = _INTERPOLATION_MODES.get(resample)
    if mode is None:
        raise ValueError(
            f"resample={resample!r} is not supported: use {[int(key) for key in _INTERPOLATION_MODES]} (nearest, "
            "bilinear, bicubic)."
        )
    if image.shape[-2:] == size:
        return image
    resized = torch.nn.functional.interpolate(
        image[None].float(), size=size, mode=mode, antialias=antialias and mode != "nearest-exact"
    )[0]
    if image.is_floating_point():
        return resized.to(image.dtype)
    info = torch.iinfo(image.dtype)
    return resized.round_().clamp_(info.min, info.max).to(image.dtype)


def resize_label_map(label_map: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (height, width) by taking the nearest label."""
    rows, columns = (
        ((torch.arange(target, device=label_map.device) + 0.5) * (length / target)).long()
        for length, target in zip(label_map.shape, size)
    )
    return label_map[rows][:, columns]


def normalize_image(
    image: torch.Tensor, scale: float, mean: float | Sequence[float], std: float | Sequence[float]
) -> torch.Tensor:
    """(scale · image - mean) / std for each channel of (channels, height, width), float32."""
    mean, std = (torch.as_tensor(value, device=image.device).reshape(-1, 1, 1) for value in (mean, std))
    return (image.float() - mean / scale).div_(std / scale)


__all__ = ["CGRSegImageProcessor", "CGRSegImageProcessorPil"]
