# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""THE reader of images: a file, PIL image, array or tensor becomes pixels, or an error that says what to do.

One rule for values: 8 bits stay, 16 bits are scaled to 8, and floats without a value above 1 go from 0 to 1 and are
scaled to 255. Image processors with another scale, such as `do_rescale=False`, get the values as they are.
"""

import errno
import os
import stat
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from transformers.image_transforms import convert_to_rgb
from transformers.image_utils import ChannelDimension

from .image_formats_cgrseg import FORMATS, FORMATS_IN_WORDS

# A path, an open file, a PIL image, or an array or tensor (height, width, channels) or (channels, height, width).
ImageSource = str | os.PathLike | IO[bytes] | Image.Image | np.ndarray | torch.Tensor

# Resizing adds values up, which has to stay within float32.
_LARGEST_VALUE = 1e30

_TRANSPOSITIONS = {  # what undoes an orientation in EXIF
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_limit_lock = threading.Lock()


class UnreadableImageError(ValueError):
    """
    The source is not an image, is damaged, has too many pixels, or values that are not brightness.

    Args:
        reason (`str`): The reason and the remedy.
        name (`str`, *optional*): The source, if the reason does not name it.
        has_too_many_pixels (`bool`, *optional*, defaults to `False`): Whether the number of pixels is the reason.
        size (`tuple[int, int]`, *optional*): Height and width, if their product is the reason and they are known.
    """

    def __init__(
        self,
        reason: str,
        name: str | None = None,
        has_too_many_pixels: bool = False,
        size: tuple[int, int] | None = None,
    ):
        super().__init__(reason if name is None else f"{name} cannot be read as an image: {reason}")
        self.reason = reason
        self.has_too_many_pixels = has_too_many_pixels
        self.size = size


def is_path(source: Any) -> bool:
    """Return whether this names a file or folder."""
    return isinstance(source, str | os.PathLike)


def is_image_source(source: Any) -> bool:
    """Return whether this is one image, decoded or not; a path may turn out to be a folder."""
    if isinstance(source, np.ndarray | torch.Tensor):
        return source.ndim in (2, 3)
    return is_path(source) or isinstance(source, Image.Image) or hasattr(source, "read")


def describe_source(source: Any) -> str:
    """Name a source in a message, in one line."""
    if is_path(source):
        return _one_line(source)
    if isinstance(source, np.ndarray | torch.Tensor):
        return f"The {type(source).__name__} of shape {tuple(source.shape)}"
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return _one_line(name) if name else f"The {type(source).__name__}"


def describe_type(source: Any) -> str:
    """Name the kind of a source, for a message that none of the expected kinds came."""
    if isinstance(source, np.ndarray | torch.Tensor):
        return f"an array of shape {tuple(source.shape)}"
    return f"a {type(source).__name__}"


def _one_line(name: Any) -> str:
    """Escape line breaks and control characters."""
    text = str(name)
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def read_image(
    source: ImageSource,
    max_pixels: int | None = None,
    num_channels: int = 3,
    do_convert_rgb: bool = True,
    do_rescale: bool = True,
    rescale_factor: float = 1 / 255,
) -> np.ndarray:
    """
    Read an image, as a person sees it: turned as its EXIF says, and transparency on white.

    Args:
        source (`ImageSource`):
            The image. A file must have one of the formats `FORMATS`, whatever its name.
        max_pixels (`int`, *optional*):
            Largest allowed number of pixels; by default Pillow's limit against files that claim to be huge,
            `PIL.Image.MAX_IMAGE_PIXELS`.
        num_channels (`int`, *optional*, defaults to 3), do_convert_rgb (`bool`, *optional*, defaults to `True`):
            See [`to_pixels`].
        do_rescale (`bool`, *optional*, defaults to `True`), rescale_factor (`float`, *optional*, defaults to 1/255):
            Settings of the image processor, see [`to_pixels`].

    Returns:
        `numpy.ndarray` of shape `(height, width, channels)`: uint8, or float32 for floats, see [`to_pixels`].

    Raises:
        UnreadableImageError: If it is not an image, is damaged, or has too many pixels or unusable values.
    """
    if not is_image_source(source):
        raise UnreadableImageError(
            f"Got {describe_type(source)} for an image: pass a path, an open file, a PIL image, or an array or tensor "
            "of 2 or 3 dimensions."
        )
    max_pixels = _get_pillow_limit() if max_pixels is None else max_pixels
    name = describe_source(source)
    if isinstance(source, np.ndarray | torch.Tensor):
        source, layout = to_channels_last(source, num_channels), ChannelDimension.LAST
        _check_num_pixels(name, tuple(source.shape[:2]), max_pixels)
    else:
        source, layout = _decode(source, name, max_pixels), None
    pixels = to_pixels(source, num_channels, do_convert_rgb, do_rescale, rescale_factor, layout, name)
    return pixels.permute(1, 2, 0).cpu().numpy()


def _decode(source: str | os.PathLike | IO[bytes] | Image.Image, name: str, max_pixels: int | None) -> Image.Image:
    """Decode a file, or a PIL image that is open but not decoded yet."""
    try:
        if not isinstance(source, Image.Image):
            return open_image(source, max_pixels)
        _check_num_pixels(name, (source.height, source.width), max_pixels)
        source.load()
        return source
    except UnreadableImageError:
        raise
    except Exception as error:  # each of Pillow's formats has errors of its own for damaged files
        raise UnreadableImageError(why_unreadable(error), name) from error


def open_image(source: str | os.PathLike | IO[bytes], max_pixels: int | None = None) -> Image.Image:
    """
    Open and decode a file, without turning or converting it.

    Args:
        source (`str`, `os.PathLike` or open file): The file, of one of the formats `FORMATS`, whatever its name.
        max_pixels (`int`, *optional*): Largest allowed number of pixels; by default Pillow's guard decides.

    Raises:
        OSError: If there is no such file, or it may not be read.
        UnreadableImageError: If it is not an image, is damaged, or has too many pixels.
    """
    name = describe_source(source)
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        raise UnreadableImageError("it is a URL: download it first, and pass the file.", name)
    if is_path(source):
        check_is_file(source)
    try:
        with _open_header(source, max_pixels) as image:
            _check_num_pixels(name, (image.height, image.width), max_pixels)
            image.load()
            return image
    except UnreadableImageError:
        raise
    except Exception as error:  # each of Pillow's formats has errors of its own for damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if max_pixels is not None and isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
            raise _refuse_num_pixels(name, "too many", max_pixels) from error
        raise UnreadableImageError(why_unreadable(error), name) from error


def check_is_file(path: str | os.PathLike) -> None:
    """Refuse pipes and devices, which may block forever."""
    mode = Path(path).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "It is a pipe or a device", os.fspath(path))


def _open_header(source: str | os.PathLike | IO[bytes], max_pixels: int | None) -> Image.Image:
    """Read a file's header, with Pillow's guard raised for this file alone where more pixels are allowed."""
    Image.init()  # registers all installed formats, once
    formats = [name for name in FORMATS if name in Image.OPEN]
    limit = _get_pillow_limit()
    if limit is None or max_pixels is None or max_pixels <= limit:
        return Image.open(source, formats=formats)
    with _limit_lock:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = max_pixels
        try:
            return Image.open(source, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _get_pillow_limit() -> int | None:
    """Return Pillow's guard, never the value to which another thread has raised it for one file."""
    with _limit_lock:
        return Image.MAX_IMAGE_PIXELS


def _check_num_pixels(name: str, size: tuple[int, int], max_pixels: int | None) -> None:
    num_pixels = size[0] * size[1]
    if max_pixels is not None and num_pixels > max_pixels:
        raise _refuse_num_pixels(name, f"{num_pixels:,}", max_pixels, size)


def _refuse_num_pixels(
    name: str, count: str, max_pixels: int, size: tuple[int, int] | None = None
) -> UnreadableImageError:
    reason = (
        f"it has {count} pixels, more than max_pixels={max_pixels:,}: pass a larger max_pixels to shrink it as a "
        "whole, or tile=512 to run it in windows, with a scale at which things look as large as in training."
    )
    return UnreadableImageError(reason, name, has_too_many_pixels=True, size=size)


def why_unreadable(error: Exception) -> str:
    """Explain an error that Pillow or the system raised over a file, and name the remedy."""
    if isinstance(error, UnreadableImageError):
        return error.reason
    if isinstance(error, UnidentifiedImageError):
        return f"it is not a {FORMATS_IN_WORDS} file, or it is damaged or empty: convert it to PNG, or replace it."
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"{_one_line(error)} Raise PIL.Image.MAX_IMAGE_PIXELS if you trust it, or make it smaller."
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror[0].lower()}{error.strerror[1:]}: check its path and your permissions."
    return f"it is damaged ({_one_line(error) or type(error).__name__}): replace it."


def find_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 (upright) to 8; 1 if it is missing or damaged."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many errors over damaged EXIF; the pixels are good
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSITIONS else 1


def turn_as_seen(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF says; return the image itself where it says nothing."""
    # Pillow's own exif_transpose writes the EXIF anew, and fails where it is damaged elsewhere.
    orientation = find_orientation(image)
    if orientation == 1:
        return image
    turned = image.transpose(_TRANSPOSITIONS[orientation])
    for place in ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"):  # where Pillow finds an orientation
        turned.info.pop(place, None)
    return turned


def to_pixels(
    image: Image.Image | np.ndarray | torch.Tensor,
    num_channels: int = 3,
    do_convert_rgb: bool = True,
    do_rescale: bool = True,
    rescale_factor: float = 1 / 255,
    input_data_format: str | ChannelDimension | None = None,
    name: str | None = None,
    highest: float | None = None,
) -> torch.Tensor:
    """
    Convert a decoded image to pixels.

    Args:
        image (`PIL.Image.Image`, `numpy.ndarray` or `torch.Tensor`):
            The image; an array or tensor of shape `(height, width)` or with channels first or last.
        num_channels (`int`, *optional*, defaults to 3):
            Channels that the model expects. Arrays of this many are not converted to RGB.
        do_convert_rgb (`bool`, *optional*, defaults to `True`):
            Whether to convert other numbers of channels to RGB.
        do_rescale (`bool`, *optional*, defaults to `True`), rescale_factor (`float`, *optional*, defaults to 1/255):
            Settings of the image processor. Unless they say that values go up to 255, values are final: they are
            neither scaled nor refused for their range.
        input_data_format (`str` or `ChannelDimension`, *optional*):
            Axis of an array's channels; by default found from the shape.
        name (`str`, *optional*):
            Name of the image in messages.
        highest (`float`, *optional*):
            Highest value of the whole image, if this is a part of one in floats.

    Returns:
        `torch.Tensor` of shape `(channels, height, width)`: uint8, float32 for floats, or the array's own type for
        final integers.

    Raises:
        UnreadableImageError: If it has no pixels, other channels than expected, or unusable values.
    """
    name = describe_source(image) if name is None else name
    is_brightness = do_rescale and rescale_factor == 1 / 255
    if isinstance(image, Image.Image):
        image = _pil_to_array(image, do_convert_rgb, name, is_brightness)
        input_data_format = ChannelDimension.LAST
    elif input_data_format is None:
        image, input_data_format = to_channels_last(image, num_channels), ChannelDimension.LAST
    pixels = _to_tensor(image)
    if pixels.ndim == 2:
        pixels = pixels[None]
    elif ChannelDimension(input_data_format) == ChannelDimension.LAST:
        pixels = pixels.permute(2, 0, 1)
    if pixels.dtype == torch.uint16:
        pixels = to_eight_bits(pixels) if is_brightness else pixels.to(torch.int32)
    elif pixels.dtype == torch.bool:
        pixels = pixels.to(torch.uint8) * 255
    elif pixels.dtype != torch.uint8:
        pixels = _to_float32(pixels, name)
        if is_brightness:
            pixels = _scale_brightness(pixels, name, highest)
    # An array of as many channels as the model expects is data to be used as it is, such as four bands.
    if do_convert_rgb and len(pixels) != num_channels:
        pixels = _to_three_channels(pixels, white=1 if pixels.is_floating_point() and not do_rescale else 255)
    return pixels


def to_photo(image: Image.Image | np.ndarray, white: float | None = 255) -> Image.Image:
    """
    Convert an image to RGB for people.

    Args:
        image (`PIL.Image.Image`, or `numpy.ndarray` of shape `(height, width, channels)`):
            The image, or its pixels as [`read_image`] returns them. The first three of more channels are shown.
        white (`float`, *optional*, defaults to 255):
            Value of white in pixels. If `None`, the highest value decides: 1, 255 or 65535.

    Raises:
        UnreadableImageError: If the values of a PIL image are not brightness.
    """
    if isinstance(image, Image.Image):
        if image.mode == "RGB" and "transparency" not in image.info:
            return turn_as_seen(image)
        image = to_pixels(image).permute(1, 2, 0).numpy()
    if image.dtype != np.uint8:
        if white is None:
            white = next((level for level in (1, 255) if image.max() <= level), 65535)
        image = (image * (255 / white)).round().clip(0, 255).astype(np.uint8)
    if image.shape[-1] < 3:
        return Image.fromarray(image[..., 0]).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(image[..., :3]))


def to_channels_last(array: np.ndarray | torch.Tensor, num_channels: int = 3) -> np.ndarray | torch.Tensor:
    """
    View an image in an array or tensor as (height, width, channels).

    Raises:
        UnreadableImageError: If neither outer axis can be the channels.
    """
    if array.ndim == 2:
        return array[..., None]
    possible = sorted({1, 3, 4, num_channels})
    is_first, is_last = array.shape[0] in possible, array.shape[-1] in possible
    if not (is_first or is_last):
        raise UnreadableImageError(
            f"Got {describe_type(array)}, neither of whose outer axes has {possible} channels: pass (height, width, "
            "channels) or (channels, height, width)."
        )
    # Where both could be, tensors usually have their channels first, and arrays last.
    if is_first and (not is_last or isinstance(array, torch.Tensor)):
        return array.permute(1, 2, 0) if isinstance(array, torch.Tensor) else np.moveaxis(array, 0, -1)
    return array


def to_native(array: np.ndarray) -> np.ndarray:
    """
    Convert an array to a type that PyTorch has, in this machine's byte order.

    Raises:
        UnreadableImageError: If it holds no numbers.
    """
    if array.dtype.kind not in "uifb":
        raise UnreadableImageError(f"Got an array of the type {array.dtype}: pass integers, floats or booleans.")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 2:
        return np.minimum(array.astype(np.uint64), np.uint64(np.iinfo(np.int64).max)).astype(np.int64)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def to_eight_bits(pixels: torch.Tensor) -> torch.Tensor:
    """Scale 0 to 65535 to 0 to 255."""
    return pixels.float().div(257).round().clamp(0, 255).to(torch.uint8)


def _to_tensor(image: np.ndarray | torch.Tensor) -> torch.Tensor:
    if 0 in image.shape:
        raise UnreadableImageError(f"Got {describe_type(image)}, which has no pixels: pass an image with some.")
    if isinstance(image, torch.Tensor):
        if image.is_complex():
            raise UnreadableImageError(f"Got a tensor of the type {image.dtype}: pass integers, floats or booleans.")
        image = image.detach()
        return image.to(torch.int64) if image.dtype in (torch.uint32, torch.uint64) else image
    array = to_native(image)
    # PyTorch takes no negative strides, not even of sides of one pixel, which NumPy calls contiguous.
    is_usable = array.flags.c_contiguous and array.flags.writeable and min(array.strides) > 0
    return torch.from_numpy(array if is_usable else array.copy())


def _pil_to_array(image: Image.Image, do_convert_rgb: bool, name: str, is_brightness: bool) -> np.ndarray:
    """
    Convert a PIL image as a person sees it to (height, width, channels).

    The result is uint8, float32 for mode F, or the stored 16 bits in int32 if values are not brightness.
    """
    image = turn_as_seen(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    if image.mode == "F":
        return np.array(image)[..., None]
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow may widen to 32, or 8 in a type too wide
        values = torch.from_numpy(to_native(np.array(image)).astype(np.int64))
        if not is_brightness:
            return values[..., None].to(torch.int32).numpy()
        is_narrow = _check_range(values, name, 65535) <= 255 and image.mode == "I"
        image = Image.fromarray((values.to(torch.uint8) if is_narrow else to_eight_bits(values)).numpy())
    elif image.mode == "LAB":
        profiles = [ImageCms.createProfile(space) for space in ("LAB", "sRGB")]
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB")
    array = convert_to_rgb(image, return_numpy=True) if do_convert_rgb else np.array(image)
    return array[..., None] if array.ndim == 2 else array


def _scale_brightness(pixels: torch.Tensor, name: str, highest: float | None) -> torch.Tensor:
    """Scale floats from 0 to 1 to 255, and convert integers to uint8; see [`to_pixels`]."""
    if not pixels.is_floating_point():
        _check_range(pixels, name, 255)
        return pixels.to(torch.uint8)
    white = 1 if (pixels.max() if highest is None else highest) <= 1 else 255
    # The highest value of other channels than colours, such as a satellite's, is unknown.
    _check_range(pixels, name, white if white == 1 or len(pixels) in (1, 3) else float("inf"))
    return pixels * (255 // white)


def _check_range(pixels: torch.Tensor, name: str, largest: float) -> float:
    """Return the highest value; refuse values below 0 or above the largest."""
    lowest, highest = float(pixels.min()), float(pixels.max())
    if lowest < 0 or highest > largest:
        raise UnreadableImageError(
            f"it holds values from {lowest:g} to {highest:g}. Pass values before any normalization, from 0 to 255, for "
            "16 bits to 65535, or for floats all of them from 0 to 1. Values that are not brightness need "
            "do_rescale=False, or another rescale_factor, of the image processor.",
            name,
        )
    return highest


def _to_float32(pixels: torch.Tensor, name: str) -> torch.Tensor:
    """Convert floats to float32, and return integers; refuse NaN, infinity, and values too large to compute with."""
    if not pixels.is_floating_point():
        return pixels
    largest = float(pixels.abs().max())
    if not np.isfinite(largest):
        raise UnreadableImageError("it holds values that are not finite: replace NaN and infinity.", name)
    if largest > _LARGEST_VALUE:
        raise UnreadableImageError(f"it holds values up to {largest:g}, too large to compute with: scale them.", name)
    return pixels.float()


def _to_three_channels(pixels: torch.Tensor, white: float) -> torch.Tensor:
    """Convert (1, height, width) and (4, height, width) to RGB, transparency on white; return others as they are."""
    if len(pixels) == 1:
        return pixels.repeat(3, 1, 1)
    if len(pixels) != 4:
        return pixels
    opacity = pixels[3:].float() / white
    on_white = pixels[:3].float() * opacity + white * (1 - opacity)
    return (on_white if pixels.is_floating_point() else on_white.round()).to(pixels.dtype)
