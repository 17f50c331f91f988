# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Whole, odd, damaged and hostile images and masks, made anew from the photos of the fixtures."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

PHOTO_SIZE = (67, 49)  # width and height
MAX_PIXELS = 89_478_485  # what `cgrseg predict` accepts by default
NUM_CLASSES = 5
IGNORED = 255

_OPENED = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")
_ORIENTATION = 0x0112


def load_photo(photos: Path, index: int = 0) -> Image.Image:
    """Load a photo of the fixtures in RGB, at the corpus's size."""
    with Image.open(sorted(photos.glob("*.jpg"))[index]) as photo:
        return photo.convert("RGB").resize(PHOTO_SIZE)


def encode(image: Image.Image, format: str, **settings: Any) -> bytes:
    """Encode an image as the content of a file."""
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def decode(path: Path) -> np.ndarray | None:
    """Decode what a person sees in a file by Pillow alone, (height, width, 3); None if there is nothing to see."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            if image.format not in _OPENED or image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            try:
                return flatten(ImageOps.exif_transpose(image))
            except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):  # damaged EXIF
                return flatten(image)
    except Exception:  # each of Pillow's formats has errors of its own
        return None


def flatten(image: Image.Image) -> np.ndarray:
    """Convert an image of any mode to RGB, transparency on white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)
        largest = 255 if image.mode == "F" else 65535
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= largest):
            raise ValueError("no brightness")
        is_wide = image.mode.startswith("I;16") or values.max() > 255
        white = 65535 if is_wide else 1 if image.mode == "F" and values.max() <= 1 else 255
        image = Image.fromarray(np.uint8(np.rint(values * (255 / white))))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def whole_images(photos: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of images of every format and colour mode."""
    photo = load_photo(photos)
    grey = np.asarray(photo.convert("L"))
    with_alpha = photo.copy()
    with_alpha.putalpha(Image.linear_gradient("L").resize(PHOTO_SIZE))
    for format, suffixes in {
        **{one: one.lower() for one in ("PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "PPM")},
        "JPEG": "jpg",
        "JPEG2000": "jp2",
        "MPO": "mpo.jpg",
    }.items():
        if format in Image.SAVE:
            yield f"photo.{suffixes}", encode(photo, format)
    yield "png_named.jpg", encode(photo, "PNG")
    yield "progressive.jpg", encode(photo, "JPEG", progressive=True)
    cmyk = encode(photo.convert("CMYK"), "JPEG")
    place = cmyk.index(b"Adobe") + 11
    yield "cmyk.jpg", cmyk
    yield "ycck.jpg", cmyk[:place] + b"\x02" + cmyk[place + 1 :]
    for mode in ("L", "LA", "1", "P", "RGBA"):
        yield f"{mode.lower()}.png", encode(with_alpha.convert(mode), "PNG")
    yield "color_key.png", encode(photo, "PNG", transparency=photo.getpixel((0, 0)))
    palette = photo.quantize(64)
    yield "palette_transparent.png", encode(palette, "PNG", transparency=bytes(range(0, 256, 4)))
    yield "palette_transparent.gif", encode(palette, "GIF", transparency=3)
    yield "sixteen_bit.png", encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG")
    for depth, kind, values in ((16, 2, np.asarray(photo).astype(">u2") * 257), (2, 0, pack_bits(grey, 2))):
        yield f"{depth}_bits_{kind}.png", make_png(pack_rows(values), PHOTO_SIZE, depth, kind)
    for packing in ("tiff_lzw", "jpeg", "tiff_deflate", "packbits"):
        yield f"{packing}.tif", encode(photo, "TIFF", compression=packing)
    yield "cmyk.tif", encode(photo.convert("CMYK"), "TIFF")
    for name, dtype, factor in (("integers", np.int32, 200), ("narrow", np.int32, 1), ("floats", np.float32, 1 / 255)):
        yield f"{name}.tif", encode(Image.fromarray((grey * factor).astype(dtype)), "TIFF")
    others = {"save_all": True, "append_images": [load_photo(photos, 1), load_photo(photos, 2)]}
    for suffix, format in (("gif", "GIF"), ("webp", "WEBP"), ("apng", "PNG"), ("tif", "TIFF")):
        yield f"several.{suffix}", encode(photo, format, **others)
    exif = Image.Exif()
    for orientation in range(9):
        exif[_ORIENTATION] = orientation
        yield f"orientation_{orientation}.jpg", encode(photo, "JPEG", exif=exif)
    for name, content in {
        "words": b"Exif\0\0no such thing",
        "cut": exif.tobytes()[:16],
        "endless": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\x08",
        "as_text": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04six\0\0\0\0\0",
        "two": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x02\0\x06\0\x08\0\0\0\0",
    }.items():
        yield f"exif_{name}.png", encode(photo, "PNG", exif=content)
    yield "profile.png", encode(photo, "PNG", icc_profile=b"no profile at all")
    for name in ("two\nlines", "bell\x07and\x1b[31mred", "-dash", "日本語", "quote'$(id)", "percent%20{0}", "x" * 251):
        yield f"{name}.jpg", encode(photo, "JPEG")
    yield os.fsdecode(b"latin-\xe9.jpg"), encode(photo, "JPEG")
    for size in ((1, 1), (1, 97), (131, 1), (30_000, 1)):
        yield f"{size[0]}x{size[1]}.png", encode(photo.resize(size), "PNG")


def unusable_images(photos: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of files that hold no image that anybody could see."""
    photo = load_photo(photos)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    for name, content in {
        "empty": b"",
        "text": b"no image" * 50,
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
        "postscript": postscript,
        "zip": b"PK\x05\x06" + b"\0" * 18,
        "pickle": b"\x80\x04\x95\x05\0\0\0\0\0\0\0]\x94.",
        "heif": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100,
        "tiff_start": b"II*\0\x08\0\0\0",
        "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
    }.items():
        yield f"{name}.jpg", content
        yield f"{name}.tif", content
    for format in ("TGA", "PCX", "ICO"):
        yield f"{format}.png", encode(photo, format)
    for name in ("two\nlines", "%s {0} \x1b[31m", os.fsdecode(b"\xff\xfe")):
        yield f"broken {name}.jpg", b"no image"
    grey = np.asarray(photo.convert("L")).astype(np.float32)
    for name, values in {"nan": grey / grey[0, 0] * np.nan, "below": grey - 128, "beyond": grey * 10}.items():
        yield f"{name}.tif", encode(Image.fromarray(values), "TIFF")
    yield "far_beyond.tif", encode(Image.fromarray((grey * 30_000).astype(np.int32)), "TIFF")
    yield "empty_size.png", make_png(b"", (0, 5))
    yield "bomb_14000.png", make_png(bytes(14_000 * 1751), (14_000, 14_000), 1, 0)
    yield "huge_header.png", make_png(b"", (2**31 - 1, 2**31 - 1))
    yield "huge_header.ppm", b"P6 60000 60000 255\n\0\0\0"
    jpeg, gif, bmp = (encode(photo, format) for format in ("JPEG", "GIF", "BMP"))
    frame = jpeg.index(b"\xff\xc0") + 5
    yield "huge_header.jpg", jpeg[:frame] + b"\xff\xdc\xff\xdc" + jpeg[frame + 4 :]
    yield "huge_screen.gif", gif[:6] + b"\xff\xff\xff\xff" + gif[10:]
    yield "huge_header.bmp", bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:]
    for name, tags in {"huge": {256: 60_000, 257: 60_000}, "far_away": {273: 2**31}, "samples": {277: 65_535}}.items():
        yield f"{name}_fields.tif", make_tiff(np.asarray(photo), tags)


def masks(photos: Path) -> Iterator[tuple[str, bytes, np.ndarray | None]]:
    """Yield names and contents of masks of a photo, and the ids that they hold; None if they must be refused."""
    photo = load_photo(photos)
    ids = np.asarray(photo.convert("L")) // 52
    ids[:2] = IGNORED
    mask = Image.fromarray(ids)
    palette = mask.copy()
    palette.putpalette([value for index in range(256) for value in (index, 255 - index, 7 * index % 256)])
    exif = Image.Exif()
    exif[_ORIENTATION] = 3
    png = encode(mask, "PNG")
    yield "grey.png", png, ids
    yield "palette_transparent.png", encode(palette, "PNG", transparency=2), ids
    yield "palette.gif", encode(palette, "GIF", optimize=False), ids
    yield "png_named.bmp", png, ids
    yield "sixteen_bit.png", encode(Image.fromarray(ids.astype(np.uint16)), "PNG"), ids
    yield "integers.tif", encode(Image.fromarray(ids.astype(np.int32)), "TIFF"), ids
    yield "turned.png", encode(Image.fromarray(ids[::-1, ::-1]), "PNG", exif=exif), ids
    binary = (ids > 1).astype(np.uint8)
    yield "one_bit.png", encode(Image.fromarray(binary * 255).convert("1"), "PNG"), binary
    for name, content in {
        "rgb.png": encode(photo, "PNG"),
        "la.png": encode(mask.convert("LA"), "PNG"),
        "floats.tif": encode(Image.fromarray(ids.astype(np.float32)), "TIFF"),
        "half_the_size.png": encode(mask.resize((33, 24)), "PNG"),
        "turned_by_90.png": encode(mask.transpose(Image.Transpose.ROTATE_90), "PNG"),
        "out_of_range.png": encode(Image.fromarray(np.where(ids == 4, 200, ids).astype(np.uint8)), "PNG"),
        "negative.tif": encode(Image.fromarray(ids.astype(np.int32) - 300), "TIFF"),
        "shades.png": encode(photo.convert("L"), "PNG"),
        "text.png": b"no image",
        "bomb.png": make_png(b"", (60_000, 60_000), 1, 0),
        "cut.png": png[: len(png) // 2],
    }.items():
        yield name, content, None


def make_png(rows: bytes, size: tuple[int, int], depth: int = 8, color_type: int = 2) -> bytes:
    """Make a PNG of filtered rows; its header may lie."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, 0)), (b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in (*chunks, (b"IEND", b""))
    )


def pack_rows(values: np.ndarray) -> bytes:
    """Mark rows of a PNG as not filtered."""
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(len(values), -1)
    return np.pad(rows, ((0, 0), (1, 0))).tobytes()


def pack_bits(grey: np.ndarray, depth: int) -> np.ndarray:
    """Pack the upper bits of grey values."""
    bits = np.unpackbits(grey[..., None], axis=-1)[..., :depth].reshape(len(grey), -1)
    return np.packbits(bits, axis=1)


def make_tiff(values: np.ndarray, tags: dict[int, int]) -> bytes:
    """Make an unpacked TIFF of RGB values with some fields changed."""
    height, width, channels = values.shape
    fields = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 273: 0, 277: channels, 278: height, 279: values.size}
    fields = {**fields, 273: 8 + 2 + 12 * len(fields) + 4, **tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    return b"II" + struct.pack("<HIH", 42, 8, len(fields)) + entries + b"\0\0\0\0" + values.tobytes()
