# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""THE reader of images: a file, PIL image, array or tensor becomes pixels of 8 or 16 bits, or an error in words."""

import errno
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format

# Resizing adds up some of them, which has to stay within float32.
_LARGEST_VALUE = 1e30

_FLOATING = (np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64)

# What is opened: formats of pixels. Pillow knows others, one of which, PostScript, it hands to a program that runs it.
# HEIF is opened once a plugin has made it known to Pillow.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")

FORMATS_IN_WORDS = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, JPEG 2000 or PPM"

_NARROW = (np.uint8, np.uint16, np.bool_, torch.uint8, torch.uint16, torch.bool)

_TRANSPOSITIONS = {  # what undoes an orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class NotPixelsError(ValueError):
    """What was passed holds no pixels, such as values that are no brightness; says why, and the remedy."""


def open_image(path: str | os.PathLike) -> Image.Image:
    """
    Read a picture from a file.

    Raises:
        OSError: If there is no such file, or it may not be read.
        ValueError: If it is no picture, or a broken one; the message names it.
    """
    check_is_file(path)
    try:
        with open_header(path) as image:
            image.load()
            return image
    except Exception as error:  # each of Pillow's formats has errors of its own for broken files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{_one_line(path)} cannot be read as a picture: {why_unreadable(error)}") from error


def check_is_file(path: str | os.PathLike) -> None:
    """Refuse pipes and devices, from which nothing may ever come."""
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "It is a pipe or a device", os.fspath(path))


def open_header(source: str | os.PathLike | IO[bytes]) -> Image.Image:
    """A picture of one of the formats `FORMATS`, whatever its file is called, with its pixels still to be decoded."""
    Image.init()  # makes all formats known that are installed, once
    return Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN])


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file over which Pillow raised an error, and the remedy."""
    if isinstance(error, NotPixelsError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return f"it is no {FORMATS_IN_WORDS} file, or a broken or empty one: convert it to PNG, or replace it."
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"{_one_line(error)} Raise PIL.Image.MAX_IMAGE_PIXELS if you trust it, or make it smaller."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror[0].lower()}{error.strerror[1:]}: check its path and the rights to it."
    return f"it is damaged ({_one_line(error) or type(error).__name__}): replace it."


def _one_line(name: Any) -> str:
    """What a name or message is in one line of a terminal, where it may hold line breaks and control characters."""
    text = str(name)
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def find_orientation(image: Image.Image) -> int:
    """How a picture is stored turned, 1 (upright) to 8, as its EXIF says; 1 if that says nothing or is broken."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises all sorts over broken EXIF; the pixels are good
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSITIONS else 1


def turn_as_seen(image: Image.Image) -> Image.Image:
    """A picture turned as its EXIF says; the picture itself where it says nothing."""
    # Pillow's own exif_transpose writes the EXIF anew, and fails where it is broken elsewhere.
    orientation = find_orientation(image)
    if orientation == 1:
        return image
    turned = image.transpose(_TRANSPOSITIONS[orientation])
    for place in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):  # where Pillow finds an orientation
        turned.info.pop(place, None)
    return turned


def pil_to_array(image: Image.Image, do_convert_rgb: bool | None) -> np.ndarray:
    """
    A picture as a person sees it, (height, width, channels), uint8.

    Raises:
        NotPixelsError: If its values are no brightness.
    """
    image = turn_as_seen(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow may widen to 32, or 8 in a type too wide
        values = to_native(np.asarray(image))
        is_narrow = find_highest(values, 65535) <= 255 and image.mode == "I"
        image = Image.fromarray(values.astype(np.uint8) if is_narrow else to_eight_bits(values))
    elif image.mode == "F":
        values = np.asarray(image)
        scale = 255 if find_highest(values, 255) <= 1 else 1
        image = Image.fromarray((values * scale).round().astype(np.uint8))
    elif image.mode == "LAB":
        profiles = [ImageCms.createProfile(space) for space in ("LAB", "sRGB")]
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    array = convert_to_rgb(image, return_numpy=True) if do_convert_rgb else np.array(image)
    return array[..., None] if array.ndim == 2 else array


def check_values(image: "np.ndarray | torch.Tensor", is_brightness: bool) -> "np.ndarray | torch.Tensor":
    """
    An array, its whole numbers of brightness in uint8 or uint16, without others than these.

    Args:
        image (`numpy.ndarray` or `torch.Tensor`): The array.
        is_brightness (`bool`): Whether whole numbers are to be 0 to 255, or 0 to 65535 as uint16.

    Raises:
        ValueError: If it has no pixels, or complex ones.
        NotPixelsError: If values are not finite, or whole numbers out of range.
    """
    if 0 in image.shape:
        raise ValueError(f"Got an array of shape {tuple(image.shape)}, which has no pixels: pass one with some.")
    if isinstance(image, torch.Tensor) and image.is_complex():
        raise ValueError(f"Got a tensor of the type {image.dtype}: pass integers, floats or booleans.")
    if image.dtype in _FLOATING:
        _check_finite(float(image.min()), float(image.max()))
    elif is_brightness and image.dtype not in _NARROW:
        find_highest(image, 255)
        return image.to(torch.uint8) if isinstance(image, torch.Tensor) else image.astype(np.uint8)
    return image


def find_highest(values: "np.ndarray | torch.Tensor", largest: int) -> float:
    """
    The highest of values that lie between 0 and the largest possible one.

    Raises:
        NotPixelsError: If they lie elsewhere.
    """
    lowest, highest = float(values.min()), float(values.max())
    _check_finite(lowest, highest)
    if lowest < 0 or highest > largest:
        raise NotPixelsError(
            f"it holds values from {lowest:g} to {highest:g}: scale them to 0 to 255, or for 16 bits to 0 to 65535; "
            "what is no brightness needs do_rescale=False, or another rescale_factor, of the image processor."
        )
    return highest


def _check_finite(lowest: float, highest: float) -> None:
    # NaN shows in both, infinity in one of them.
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise NotPixelsError("it holds values that are not finite: replace NaN and infinity.")
    if max(-lowest, highest) > _LARGEST_VALUE:
        raise NotPixelsError(f"it holds values up to {max(-lowest, highest):g}, too large to compute with: scale them.")


def find_channels(image: "np.ndarray | torch.Tensor", num_channels: int) -> ChannelDimension:
    """Whether the channels are an array's first axis or its last."""
    possible = sorted({1, 3, 4, num_channels})
    if image.shape[0] not in possible and image.shape[-1] not in possible:
        raise ValueError(
            f"Got an array of shape {tuple(image.shape)}, neither of whose outer axes has {possible} channels: pass "
            "(height, width, channels) or (channels, height, width)."
        )
    return infer_channel_dimension_format(image, num_channels=tuple(possible))


def to_three_channels(image: "np.ndarray | torch.Tensor", white: float) -> "np.ndarray | torch.Tensor":
    """(1, height, width) and (4, height, width) as RGB, transparency on white; others as they are."""
    if len(image) == 1:
        return image.repeat(3, 1, 1) if isinstance(image, torch.Tensor) else image.repeat(3, axis=0)
    if len(image) != 4:
        return image
    if not isinstance(image, torch.Tensor):
        return to_three_channels(torch.from_numpy(image), white).numpy()
    opacity = image[3:].float() / white
    on_white = image[:3].float() * opacity + white * (1 - opacity)
    return (on_white if image.is_floating_point() else on_white.round()).to(image.dtype)


def to_native(array: np.ndarray) -> np.ndarray:
    """
    An array in a type that PyTorch has, of this machine's byte order.

    Raises:
        ValueError: If it holds no numbers.
    """
    if array.dtype.kind not in "uifb":
        raise ValueError(f"Got an array of the type {array.dtype}: pass integers, floats or booleans.")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 2:
        return np.minimum(array.astype(np.uint64), np.uint64(np.iinfo(np.int64).max)).astype(np.int64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def to_eight_bits(image: "np.ndarray | torch.Tensor") -> "np.ndarray | torch.Tensor":
    """0 to 65535 onto 0 to 255."""
    if isinstance(image, torch.Tensor):
        return image.float().div(257).round().to(torch.uint8)
    return (image.astype(np.float32) / 257).round().clip(0, 255).astype(np.uint8)


# A path, an open file, a PIL image, or an array or tensor (height, width, channels) or (channels, height, width).
PictureSource = str | os.PathLike | IO[bytes] | Image.Image | np.ndarray | torch.Tensor

TIFF_SUFFIXES = (".tif", ".tiff")

_limit_lock = threading.Lock()


class UnreadablePictureError(ValueError):
    """What was passed is no picture, or one that is broken or too large."""


class TooManyPixelsError(UnreadablePictureError):
    """
    A picture has more pixels than are allowed.

    Args:
        message (`str`): That in words.
        size (`tuple[int, int]`, *optional*): Its height and width; not known where Pillow's guard has refused it.
    """

    def __init__(self, message: str, size: tuple[int, int] | None = None):
        super().__init__(message)
        self.size = size


@dataclass
class Picture:
    """
    A picture that is ready for the image processor.

    Args:
        pixels (`PIL.Image.Image`, or `numpy.ndarray` of shape `(height, width, channels)`):
            Its pixels, turned as a person sees it; of an array, floats are from 0 to 255.
        size (`tuple[int, int]`):
            Height and width in pixels.
    """

    pixels: Image.Image | np.ndarray
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
    """What to call it in a message, in one line."""
    if is_path(source):
        return _one_line(source)
    if isinstance(source, np.ndarray | torch.Tensor):
        return f"The {type(source).__name__} of shape {tuple(source.shape)}"
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return _one_line(name) if name else f"The {type(source).__name__}"


def open_picture(source: PictureSource, max_pixels: int | None = None, num_channels: int = 3) -> Picture:
    """
    Open a picture and decode it. A file has to be of one of the formats `FORMATS`, whatever it is called.

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
        TooManyPixelsError: If it has too many pixels.
        UnreadablePictureError: If it is no picture, or broken.
    """
    if not is_picture(source):
        raise UnreadablePictureError(
            f"Got {describe_type(source)} for a picture: pass a path, an open file, a PIL image, or an array or "
            "tensor of 2 or 3 dimensions."
        )
    max_pixels = _read_limit() if max_pixels is None else max_pixels
    if isinstance(source, np.ndarray | torch.Tensor):
        rows = to_rows(source, num_channels)
        _check_pixels(source, rows.shape[:2], max_pixels)
        return Picture(scale_floats(rows, describe_source(source)), rows.shape[:2])
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
        if is_path(source):
            check_is_file(source)
        with _open_within(source, max_pixels) as image:
            return _load(image, source, max_pixels)
    except UnreadablePictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(_too_many_pixels(name, "too many", max_pixels)) from error
    except Exception as error:  # each of Pillow's formats has errors of its own for broken files
        raise UnreadablePictureError(f"{name} cannot be read as a picture: {_reason(source, error)}") from error


def _load(image: Image.Image, source: PictureSource, max_pixels: int | None) -> Image.Image:
    _check_pixels(source, (image.height, image.width), max_pixels)
    image.load()
    return turn_as_seen(image)


def _reason(source: Any, error: Exception) -> str:
    if is_path(source) and str(source).startswith(("http://", "https://")):
        return "it is an address; download it first and pass the file."
    return why_unreadable(error)


def _open_within(source: str | os.PathLike | IO[bytes], max_pixels: int | None) -> Image.Image:
    """Read a picture's header, with Pillow's guard raised for this file alone where more pixels are allowed."""
    limit = _read_limit()
    if limit is None or (max_pixels is not None and max_pixels <= limit):
        return open_header(source)
    with _limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            return open_header(source)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _read_limit() -> int | None:
    """Pillow's guard, and not what another thread has raised it to for one file."""
    with _limit_lock:
        return Image.MAX_IMAGE_PIXELS


def _check_pixels(source: PictureSource, size: tuple[int, int], max_pixels: int | None) -> None:
    num_pixels = size[0] * size[1]
    if max_pixels is not None and num_pixels > max_pixels:
        raise TooManyPixelsError(_too_many_pixels(describe_source(source), f"{num_pixels:,}", max_pixels), size)


def _too_many_pixels(name: str, count: str, max_pixels: int | None) -> str:
    return (
        f"{name} has {count} pixels, more than max_pixels={max_pixels:,}: pass a larger max_pixels to shrink it as a "
        "whole, or tile=512 to run it in windows, with a scale at which things look as large as in training."
    )


def _channels_first(array: np.ndarray | torch.Tensor, num_channels: int) -> bool:
    """Which axis is the channels'; where both could be, the one that arrays, and that tensors, usually have."""
    possible = (1, 3, 4, num_channels)
    first, last = array.shape[0] in possible, array.shape[-1] in possible
    if not (first or last):
        raise UnreadablePictureError(
            f"Got an array of shape {tuple(array.shape)}, neither of whose outer axes has 1, 3 or 4 channels: pass "
            "(height, width, channels) or (channels, height, width)."
        )
    return first and (not last or isinstance(array, torch.Tensor))


def to_rows(array: np.ndarray | torch.Tensor, num_channels: int = 3) -> np.ndarray:
    """
    A view of any picture in an array as (height, width, channels).

    Raises:
        UnreadablePictureError: If it has no pixels, no axis for the channels, or values that are no numbers.
    """
    is_first = array.ndim == 3 and _channels_first(array, num_channels)
    array = _to_numpy(array) if isinstance(array, torch.Tensor) else array
    if array.dtype.kind not in "uifb":
        raise UnreadablePictureError(f"Got an array of the type {array.dtype}: pass integers, floats or booleans.")
    if array.size == 0:
        raise UnreadablePictureError(f"Got an array of shape {array.shape}, which has no pixels: pass one with some.")
    if array.ndim == 2:
        return array[..., None]
    return np.moveaxis(array, 0, -1) if is_first else array


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array; of the types that NumPy has not, bfloat16 is one."""
    tensor = tensor.detach().cpu()
    is_known = tensor.dtype != torch.bfloat16
    return (tensor if is_known else tensor.float()).numpy()


def scale_floats(rows: np.ndarray, name: str, looked_at: np.ndarray | None = None) -> np.ndarray:
    """
    Pixels in floats brought from 0 to 1, as PyTorch's tools have them, to 0 to 255; others as they are.

    Args:
        rows (`numpy.ndarray`): The pixels.
        name (`str`): What to call the picture in a message.
        looked_at (`numpy.ndarray`, *optional*): Pixels that tell the range, if these are a part of a picture.

    Returns:
        `numpy.ndarray` of the same shape, in this machine's byte order.

    Raises:
        UnreadablePictureError: If values are not finite, below 0, as normalised ones are, or above what the others
            say is white.
    """
    rows = to_native(rows)
    if rows.dtype.kind != "f":
        return rows
    lowest, highest = float(rows.min()), float(rows.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise UnreadablePictureError(f"{name} holds values that are not finite: replace NaN and infinity.")
    white = 1 if (highest if looked_at is None else looked_at.max()) <= 1 else 255
    # Of other channels than those of colours, such as a satellite's, nobody knows the highest value.
    if lowest < 0 or (highest > white and (white == 1 or rows.shape[-1] in (1, 3))):
        raise UnreadablePictureError(
            f"{name} holds values from {lowest:.3g} to {highest:.3g}: pass pixels from 0 to 255, or all of them from 0 "
            "to 1, before any normalisation; the image processor's is done here."
        )
    return rows.astype(np.float32) * np.float32(255 // white)


def to_plain_values(rows: np.ndarray) -> np.ndarray:
    """Pixels with 16 bits or one brought to 8, as the image processor does; others as they are."""
    if rows.dtype == np.uint16:
        return to_eight_bits(rows)
    return rows * np.uint8(255) if rows.dtype == np.bool_ else rows


def to_photo(picture: Picture, step: int = 1) -> Image.Image:
    """
    A picture in RGB for people.

    Args:
        picture ([`Picture`]): The picture.
        step (`int`, *optional*, defaults to 1): Take every so many pixels only.
    """
    if isinstance(picture.pixels, Image.Image):
        return Image.fromarray(pil_to_array(picture.pixels, True)[::step, ::step])
    return rows_to_photo(picture.pixels[::step, ::step])


def rows_to_photo(rows: np.ndarray) -> Image.Image:
    """An array (height, width, channels) in RGB for people; of more than four channels the first three are shown."""
    rows = to_plain_values(to_native(rows))
    if rows.dtype != np.uint8:
        rows = rows.round().clip(0, 255).astype(np.uint8)
    if rows.shape[-1] in (2, 3, 4):
        return Image.fromarray(pil_to_array(Image.fromarray(rows), True))
    return Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else np.ascontiguousarray(rows[..., :3])).convert("RGB")
