# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What people pass as a picture, opened within a limit of pixels; what cannot be read is said in words."""

import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format

from ..data.layouts import IMAGE_SUFFIXES, list_files
from ..image_processing_cgrseg import pil_to_array, to_eight_bits, turn_as_seen

# A path, an open file, a PIL image, or an array or tensor (height, width, channels) or (channels, height, width).
PictureSource = str | os.PathLike | IO[bytes] | Image.Image | np.ndarray | torch.Tensor

_limit_lock = threading.Lock()


class UnreadablePictureError(ValueError):
    """What was passed is no picture, or one that is broken or too large."""


@dataclass
class Picture:
    """
    A picture that is ready for the image processor.

    Args:
        pixels (`PIL.Image.Image`, `numpy.ndarray` or `torch.Tensor`):
            Its pixels, turned as a person sees it.
        size (`tuple[int, int]`):
            Height and width in pixels.
    """

    pixels: Image.Image | np.ndarray | torch.Tensor
    size: tuple[int, int]


def is_path(source: Any) -> bool:
    """Whether this names a file or folder."""
    return isinstance(source, str | os.PathLike)


def is_picture(source: Any) -> bool:
    """Whether this is one picture, read or not; a path may turn out to be a folder."""
    if isinstance(source, np.ndarray | torch.Tensor):
        return source.ndim in (2, 3)
    return is_path(source) or isinstance(source, Image.Image) or hasattr(source, "read")


def describe_source(source: Any) -> str:
    """What to call it in a message."""
    if is_path(source):
        return str(source)
    if isinstance(source, np.ndarray | torch.Tensor):
        return f"The {type(source).__name__} of shape {tuple(source.shape)}"
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return str(name) if name else f"The {type(source).__name__}"


def list_pictures(folder: str | os.PathLike) -> list[Path]:
    """
    All pictures in a folder and in the folders in it, sorted.

    Raises:
        ValueError: If there is none.
    """
    files = list_files(Path(folder), IMAGE_SUFFIXES)
    if not files:
        raise ValueError(f"There are no pictures ({', '.join(IMAGE_SUFFIXES)}) in {folder}.")
    return files


def open_picture(source: PictureSource, max_pixels: int | None = None, num_channels: int = 3) -> Picture:
    """
    Open a picture and decode it.

    Args:
        source (`PictureSource`):
            The picture.
        max_pixels (`int`, *optional*):
            Number of pixels that it may have. By default Pillow's limit against files that claim to be huge,
            `PIL.Image.MAX_IMAGE_PIXELS`.
        num_channels (`int`, *optional*, defaults to 3):
            Channels that the model takes; it tells in arrays which axis they are.

    Returns:
        [`Picture`]: the picture.

    Raises:
        UnreadablePictureError: If it is no picture, broken, or has too many pixels.
    """
    if not is_picture(source):
        raise UnreadablePictureError(
            f"Got {describe_type(source)} for a picture: pass a path, an open file, a PIL image, or an array or "
            "tensor of 2 or 3 dimensions."
        )
    max_pixels = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if isinstance(source, np.ndarray | torch.Tensor):
        size = _size_of_array(source, num_channels)
        _check_pixels(source, size, max_pixels)
        return Picture(source, size)
    image = _decode(source, max_pixels)
    return Picture(image, (image.height, image.width))


def describe_type(source: Any) -> str:
    """What kind of thing was passed, for a message that it is none of those expected."""
    if isinstance(source, np.ndarray | torch.Tensor):
        return f"an array of shape {tuple(source.shape)}"
    return f"a {type(source).__name__}"


def _decode(source: str | os.PathLike | IO[bytes] | Image.Image, max_pixels: int | None) -> Image.Image:
    """The picture with its pixels, turned as a person sees it."""
    name = describe_source(source)
    try:
        if isinstance(source, Image.Image):
            return _load(source, source, max_pixels)
        with _open_within(source, max_pixels) as image:
            return _load(image, source, max_pixels)
    except UnreadablePictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadablePictureError(_too_many_pixels(name, None, max_pixels)) from error
    except Exception as error:  # each of Pillow's formats has errors of its own for broken files
        raise UnreadablePictureError(f"{name} cannot be read as a picture: {_reason(source, error)}") from error


def _load(image: Image.Image, source: PictureSource, max_pixels: int | None) -> Image.Image:
    _check_pixels(source, image.size, max_pixels)
    image.load()
    try:
        return turn_as_seen(image)
    except (SyntaxError, ValueError, struct.error):
        return image  # what says how to turn it is broken; its pixels are not


def _reason(source: Any, error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it has no format that Pillow knows."
    if is_path(source) and str(source).startswith(("http://", "https://")):
        return "it is an address; download it first and pass the file."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror[0].lower()}{error.strerror[1:]}."
    return f"{error}."


def _open_within(source: str | os.PathLike | IO[bytes], max_pixels: int | None) -> Image.Image:
    """Read a picture's header, with Pillow's guard raised for this file alone where more pixels are allowed."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or (max_pixels is not None and max_pixels <= limit):
        return Image.open(source)
    with _limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            return Image.open(source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_pixels(source: PictureSource, size: tuple[int, int], max_pixels: int | None) -> None:
    num_pixels = size[0] * size[1]
    if max_pixels is not None and num_pixels > max_pixels:
        raise UnreadablePictureError(_too_many_pixels(describe_source(source), num_pixels, max_pixels))


def _too_many_pixels(name: str, num_pixels: int | None, max_pixels: int | None) -> str:
    count = "too many" if num_pixels is None else f"{num_pixels:,}"
    return (
        f"{name} has {count} pixels, more than max_pixels={max_pixels:,}: pass tile=512 to run it in windows of its "
        "own resolution, or a larger max_pixels to shrink it as a whole."
    )


def _channels_first(array: np.ndarray | torch.Tensor, num_channels: int) -> bool:
    layout = infer_channel_dimension_format(array, num_channels=(1, 3, 4, num_channels))
    return layout == ChannelDimension.FIRST


def _size_of_array(array: np.ndarray | torch.Tensor, num_channels: int) -> tuple[int, int]:
    if array.ndim == 2:
        return tuple(array.shape)
    try:
        return tuple(array.shape[1:] if _channels_first(array, num_channels) else array.shape[:2])
    except ValueError as error:
        raise UnreadablePictureError(
            f"Got an array of shape {tuple(array.shape)}, neither of whose outer axes has 1, 3 or 4 channels: pass "
            "(height, width, channels) or (channels, height, width)."
        ) from error


def to_rows(array: np.ndarray | torch.Tensor, num_channels: int = 3) -> np.ndarray:
    """A view of any picture in an array as (height, width, channels)."""
    array = array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else array
    if array.ndim == 2:
        return array[..., None]
    return np.moveaxis(array, 0, -1) if _channels_first(array, num_channels) else array


def to_plain_values(rows: np.ndarray) -> np.ndarray:
    """Pixels with 16 bits or one brought to 8, as the image processor does; others as they are."""
    if rows.dtype == np.uint16:
        return to_eight_bits(rows)
    return rows * np.uint8(255) if rows.dtype == np.bool_ else rows


def to_photo(picture: Picture, step: int = 1, num_channels: int = 3) -> Image.Image:
    """
    A picture in RGB for people.

    Args:
        picture ([`Picture`]): The picture.
        step (`int`, *optional*, defaults to 1): Take every so many pixels only.
        num_channels (`int`, *optional*, defaults to 3): Channels that the model takes.
    """
    if isinstance(picture.pixels, Image.Image):
        return Image.fromarray(pil_to_array(picture.pixels, True)[::step, ::step])
    return rows_to_photo(to_rows(picture.pixels, num_channels)[::step, ::step])


def rows_to_photo(rows: np.ndarray) -> Image.Image:
    """An array (height, width, channels) in RGB for people; of more than four channels the first three are shown."""
    rows = to_plain_values(rows)
    if rows.dtype != np.uint8:
        rows = (rows * (255 if rows.max() <= 1 else 1)).round().clip(0, 255).astype(np.uint8)
    if rows.shape[-1] in (2, 3, 4):
        return Image.fromarray(pil_to_array(Image.fromarray(rows), True))
    return Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else np.ascontiguousarray(rows[..., :3])).convert("RGB")
