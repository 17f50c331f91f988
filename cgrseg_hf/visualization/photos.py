# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Photos under what is drawn: as a person sees them, in RGB, with opacity as a share."""

from PIL import Image


def to_rgb(image: Image.Image) -> Image.Image:
    """A photo turned as its EXIF says, with 8 bits a channel: 16-bit ones are scaled, transparent ones lie on white."""
    if image.mode in ("RGB", "L") and "transparency" not in image.info and not image.getexif():
        return image.convert("RGB")
    from ..model.image_reading_cgrseg import to_photo  # imports packages that take time to load

    return to_photo(image)


def check_opacity(opacity: float) -> None:
    """
    See that an opacity is a share.

    Raises:
        ValueError: If it is none, such as one in percent.
    """
    if not 0 <= opacity <= 1:
        hint = f": for {opacity:g} percent give {opacity / 100:g}" if 1 < opacity <= 100 else ""
        raise ValueError(f"opacity={opacity}, but it goes from 0 to 1{hint}.")
