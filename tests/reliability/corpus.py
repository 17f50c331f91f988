# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Hundreds of real, odd, damaged and hostile pictures, masks and arrays, made anew from the photos of the fixtures."""

import io
import os
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from PIL import Image, ImageCms, ImageOps

# What must come of a file: an answer, an error, or whichever of the two decoding it here leads to (a file whose middle
# is damaged may still hold a picture).
Expected = Literal["right", "refused", "as decoded"]

PHOTO_SIZE = (67, 49)  # width and height of most pictures
MAX_PIXELS = 89_478_485  # what `cgrseg predict` takes unless told otherwise

_ORIENTATION = 0x0112

# Formats that are opened; MPO is a JPEG that holds several. What else Pillow knows is refused.
_OPENED = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")


@dataclass(frozen=True)
class Case:
    """A file of the corpus: where it lies, what kind of trouble it is, and what must come of it."""

    path: Path
    kind: str
    expected: Expected

    @property
    def name(self) -> str:
        """What it is called in reports of a test."""
        return self.path.name


class Corpus:
    """
    Makes the files in a folder.

    Args:
        folder (`Path`): Where to, a folder that does not exist or is empty.
        photos (`Path`): The folder of photos.
        seed (`int`, *optional*, defaults to 0): Decides which bytes are flipped.
    """

    def __init__(self, folder: Path, photos: Path, seed: int = 0):
        self.folder = folder
        self.cases: list[Case] = []
        self.photos = sorted(photos.glob("*.jpg"))
        self.generator = np.random.default_rng(seed)
        folder.mkdir(parents=True, exist_ok=True)

    def photo(self, index: int = 0, size: tuple[int, int] = PHOTO_SIZE) -> Image.Image:
        """A photo of the fixtures in RGB, brought to a width and height."""
        with Image.open(self.photos[index % len(self.photos)]) as photo:
            return photo.convert("RGB").resize(size)

    def add(self, name: str, kind: str, expected: Expected, content: bytes | None = None) -> Path:
        """Note a file, and write it if its content is given."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_bytes(content)
        self.cases.append(Case(path, kind, expected))
        return path


def make_pictures(folder: Path, photos: Path, seed: int = 0) -> list[Case]:
    """Write every picture of the corpus into a folder."""
    corpus = Corpus(folder, photos, seed)
    for add in (
        add_formats,
        add_color_modes,
        add_sizes,
        add_sequences,
        add_orientations,
        add_color_profiles,
        add_wrong_names,
        add_odd_names,
        add_no_pictures,
        add_odd_places,
        add_lying_headers,
        add_truncated,
        add_flipped_bytes,
    ):
        add(corpus)
    return corpus.cases


def encode(image: Image.Image, format: str, **settings: Any) -> bytes:
    """A picture as the content of a file."""
    file = io.BytesIO()
    image.save(file, format, **settings)
    return file.getvalue()


def decode(path: Path) -> np.ndarray | None:
    """
    What a person sees in a file, decoded by Pillow alone: `(height, width, 3)`, uint8.

    Returns:
        `None` if there is nothing to be seen: it is no picture, broken, larger than `MAX_PIXELS` or not pixels.
    """
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            if image.format not in _OPENED or image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            try:
                upright = ImageOps.exif_transpose(image)
            except Exception:  # a broken note of how to turn it
                upright = image
            return flatten(upright)
    except Exception:  # each of Pillow's formats has errors of its own
        return None


def decode_in_parts(path: Path) -> np.ndarray | None:
    """What tifffile alone finds in a TIFF of RGB in 8 bits; `None` if it is none, or beyond use."""
    import tifffile

    try:
        values = tifffile.imread(path, key=0)
    except Exception:  # what a broken file leads to depends on where it is broken
        return None
    is_rgb = values.dtype == np.uint8 and values.ndim == 3 and values.shape[-1] == 3 and values.size > 0
    return values if is_rgb else None


def flatten(image: Image.Image) -> np.ndarray:
    """A picture of any mode in RGB, transparency on white."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.uint8(np.rint(values.astype(np.float32) / 257)))
    elif image.mode in ("I", "F"):
        highest = {"I": 65535, "F": 255}[image.mode]
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > highest:
            raise ValueError("no grey value")
        white = 65535 if values.max() > 255 else 1 if values.max() <= 1 and image.mode == "F" else 255
        image = Image.fromarray(np.uint8(np.rint(values * (255 / white))))
    elif image.mode == "LAB":
        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
    return np.asarray(image.convert("RGB"))


# --- whole pictures


def add_formats(corpus: Corpus) -> None:
    """Pictures as they should be, in every format that Pillow writes, also those that are not opened."""
    kind = "formats"
    Image.init()
    for index, (name, format, settings) in enumerate(
        [
            ("baseline.jpg", "JPEG", {}),
            ("progressive.jpg", "JPEG", {"progressive": True}),
            ("optimized.jpeg", "JPEG", {"optimize": True, "quality": 30}),
            ("subsampled.jpg", "JPEG", {"subsampling": "4:2:0"}),
            ("full_resolution.jpg", "JPEG", {"subsampling": "4:4:4", "quality": 95}),
            ("restarts.jpg", "JPEG", {"restart_marker_rows": 1}),
            ("comment.jpg", "JPEG", {"comment": b"said\0with\xffbytes"}),
            ("plain.png", "PNG", {}),
            ("uncompressed.png", "PNG", {"compress_level": 0}),
            ("lossy.webp", "WEBP", {}),
            ("lossless.webp", "WEBP", {"lossless": True}),
            ("photo.avif", "AVIF", {}),
            ("photo.jp2", "JPEG2000", {}),
            ("photo.bmp", "BMP", {}),
            ("photo.gif", "GIF", {}),
            ("photo.ppm", "PPM", {}),
            ("photo.tga", "TGA", {}),
            ("packed.tga", "TGA", {"compression": "tga_rle"}),
            ("photo.pcx", "PCX", {}),
            ("photo.sgi", "SGI", {}),
            ("photo.dds", "DDS", {}),
            ("photo.ico", "ICO", {"sizes": [(64, 64)]}),
            ("photo.icns", "ICNS", {}),
            ("photo.im", "IM", {}),
            ("photo.qoi", "QOI", {}),
            ("photo.mpo", "MPO", {}),
            *((f"{packing}.tif", "TIFF", {"compression": packing}) for packing in ("raw", "tiff_lzw", "jpeg")),
            ("tiff_deflate.tiff", "TIFF", {"compression": "tiff_deflate"}),
            ("packbits.tif", "TIFF", {"compression": "packbits"}),
            ("zstd.tif", "TIFF", {"compression": "zstd"}),
            ("large_file_layout.tif", "TIFF", {"big_tiff": True}),
        ]
    ):
        size = (64, 64) if format in ("ICO", "ICNS") else PHOTO_SIZE
        if format in Image.SAVE:
            expected = "right" if format in _OPENED else "refused"
            corpus.add(name, kind, expected, encode(corpus.photo(index, size), format, **settings))
    for path in corpus.photos[:2]:
        corpus.add(f"whole_{path.name}", kind, "right", path.read_bytes())
    values = np.asarray(corpus.photo(3))
    corpus.add("interlaced.png", kind, "right", make_interlaced_png(values))
    add_tifffile_formats(corpus, kind)
    add_arithmetic_jpeg(corpus, kind)


def add_tifffile_formats(corpus: Corpus, kind: str) -> None:
    """TIFF files that Pillow reads but does not write."""
    import tifffile

    values = np.asarray(corpus.photo(5, (64, 48)))
    for name, settings in {
        "big_endian.tif": {"byteorder": ">", "photometric": "rgb"},
        "tiled.tif": {"tile": (16, 16), "photometric": "rgb"},
        "in_planes.tif": {"planarconfig": "separate", "photometric": "rgb"},
        "deflated_strips.tif": {"compression": "zlib", "rowsperstrip": 7, "photometric": "rgb"},
        "predicted.tif": {"compression": "zlib", "predictor": True, "photometric": "rgb"},
    }.items():
        picture = np.moveaxis(values, -1, 0) if "planarconfig" in settings else values
        file = io.BytesIO()
        tifffile.imwrite(file, picture, **settings)
        corpus.add(name, kind, "right", file.getvalue())


def add_arithmetic_jpeg(corpus: Corpus, kind: str) -> None:
    """A JPEG with arithmetic coding, which GDAL writes."""
    from rasterio.io import MemoryFile

    values = np.moveaxis(np.asarray(corpus.photo(6)), -1, 0)
    with MemoryFile(ext=".jpg") as memory:
        shape = {"count": 3, "height": values.shape[1], "width": values.shape[2]}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the photo has no place on the globe
            with memory.open(driver="JPEG", dtype="uint8", arithmetic="YES", **shape) as file:
                file.write(values)
        content = memory.read()
    assert b"\xff\xc9" in content, "this is not arithmetic coding"
    corpus.add("arithmetic.jpg", kind, "right", content)


def add_color_modes(corpus: Corpus) -> None:
    """Every way in which a file may hold colours or grey values."""
    kind = "colour modes and depths"
    photo = corpus.photo(1)
    grey = np.asarray(photo.convert("L"))
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, photo.width, dtype=np.uint8), (photo.height, 1)))
    with_alpha = photo.copy()
    with_alpha.putalpha(alpha)
    palette = photo.quantize(64)
    cmyk = encode(photo.convert("CMYK"), "JPEG")
    cases = {
        "grey.jpg": encode(photo.convert("L"), "JPEG"),
        "grey.png": encode(photo.convert("L"), "PNG"),
        "grey_transparent.png": encode(photo.convert("L"), "PNG", transparency=200),
        "color_key.png": encode(photo, "PNG", transparency=photo.getpixel((0, 0))),
        "rgba.png": encode(with_alpha, "PNG"),
        "rgba.webp": encode(with_alpha, "WEBP"),
        "rgba.tif": encode(with_alpha, "TIFF"),
        "la.png": encode(with_alpha.convert("LA"), "PNG"),
        "palette.png": encode(palette, "PNG"),
        "palette_2_bits.png": encode(photo.quantize(4), "PNG", bits=2),
        "palette_1_bit.png": encode(photo.quantize(2), "PNG", bits=1),
        "palette_transparent_index.png": encode(palette, "PNG", transparency=3),
        "palette_transparent_bytes.png": encode(palette, "PNG", transparency=bytes(range(0, 256, 4))),
        "palette_transparent.gif": encode(palette, "GIF", transparency=3),
        "palette.bmp": encode(palette, "BMP"),
        "palette.tif": encode(palette, "TIFF"),
        "one_bit.png": encode(photo.convert("1"), "PNG"),
        "one_bit.tif": encode(photo.convert("1"), "TIFF"),
        "one_bit_fax.tif": encode(photo.convert("1"), "TIFF", compression="group4"),
        "one_bit.bmp": encode(photo.convert("1"), "BMP"),
        "cmyk.jpg": cmyk,
        "cmyk.tif": encode(photo.convert("CMYK"), "TIFF"),
        "ycck.jpg": turn_into_ycck(cmyk),
        "lab.tif": encode(_to_lab(photo), "TIFF"),
        "sixteen_bit.png": encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"),
        "sixteen_bit.tif": encode(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF"),
        "sixteen_bit_rgb.png": make_png(_png_rows(np.asarray(photo).astype(">u2") * 257), photo.size, 16, 2),
        "sixteen_bit_rgba.png": make_png(_png_rows(np.asarray(with_alpha).astype(">u2") * 257), photo.size, 16, 6),
        "sixteen_bit_la.png": make_png(
            _png_rows(np.asarray(with_alpha.convert("LA")).astype(">u2") * 257), photo.size, 16, 4
        ),
        "two_bit_grey.png": make_png(_png_rows(np.packbits(_bits(grey, 2), axis=1)), photo.size, 2, 0),
        "four_bit_grey.png": make_png(_png_rows(np.packbits(_bits(grey, 4), axis=1)), photo.size, 4, 0),
        "sixteen_bit.pgm": b"P5 67 49 65535\n" + (grey.astype(">u2") * 257).tobytes(),
        "ten_bit.pgm": b"P5 67 49 1023\n" + (grey.astype(">u2") * 4).tobytes(),
        "text.ppm": b"P3 2 2 255  255 0 0  0 255 0  0 0 255  9 9 9\n",
        "integers.tif": encode(Image.fromarray(grey.astype(np.int32) * 200), "TIFF"),
        "narrow_integers.tif": encode(Image.fromarray(grey.astype(np.int32)), "TIFF"),
        "floats_to_1.tif": encode(Image.fromarray(grey.astype(np.float32) / 255), "TIFF"),
        "floats_to_255.tif": encode(Image.fromarray(grey.astype(np.float32)), "TIFF"),
    }
    for name, content in cases.items():
        corpus.add(name, kind, "right", content)
    for name, byteorder in (("big_endian_sixteen_bit.tif", ">"), ("little_endian_sixteen_bit.tif", "<")):
        corpus.add(name, kind, "right", _with_tifffile(grey.astype(np.uint16) * 257, byteorder=byteorder))
    # Pillow writes it, and reads it only from release 13 on.
    reads_it = int(PIL.__version__.partition(".")[0]) >= 13
    corpus.add("ycbcr.tif", kind, "right" if reads_it else "refused", encode(photo.convert("YCbCr"), "TIFF"))
    corpus.add("white_is_zero.tif", kind, "right", _with_tifffile(grey, photometric="miniswhite"))
    corpus.add("sixteen_bit_rgb.tif", kind, "as decoded", _with_tifffile(np.asarray(photo).astype(np.uint16) * 257))
    corpus.add("big_endian_floats.tif", kind, "right", _with_tifffile(grey / np.float32(255), byteorder=">"))
    corpus.add("doubles.tif", kind, "as decoded", _with_tifffile(grey / 255.0))
    corpus.add("half_floats.tif", kind, "as decoded", _with_tifffile((grey / 255).astype(np.float16)))
    corpus.add("complex.tif", kind, "as decoded", _with_tifffile(grey.astype(np.complex64)))
    corpus.add("five_bands.tif", kind, "as decoded", _with_tifffile(np.dstack([grey] * 5), photometric="minisblack"))
    holes = grey.astype(np.float32) / 255
    holes[10:20, 10:20] = np.nan
    beyond = grey.astype(np.int32)
    beyond[5] = 3_000_000
    below = grey.astype(np.float32) - 128
    infinite = np.where(np.isnan(holes), np.float32(np.inf), holes)
    values = {"nan.tif": holes, "infinite.tif": infinite, "far_beyond.tif": beyond, "below.tif": below}
    for name, array in values.items():
        corpus.add(name, kind, "refused", encode(Image.fromarray(array), "TIFF"))


def _to_lab(photo: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(photo, srgb, lab, outputMode="LAB")


def _with_tifffile(values: np.ndarray, **settings: Any) -> bytes:
    import tifffile

    file = io.BytesIO()
    tifffile.imwrite(file, values, **settings)
    return file.getvalue()


def _bits(grey: np.ndarray, depth: int) -> np.ndarray:
    """The upper bits of grey values, one a column."""
    return np.unpackbits(grey[..., None], axis=-1)[..., :depth].reshape(len(grey), -1)


def turn_into_ycck(cmyk: bytes) -> bytes:
    """The same JPEG with the note that its four channels are YCCK."""
    place = cmyk.index(b"Adobe") + 11
    return cmyk[:place] + b"\x02" + cmyk[place + 1 :]


def make_png(
    rows: bytes, size: tuple[int, int], depth: int = 8, color_type: int = 2, interlaced: bool = False, *before: bytes
) -> bytes:
    """A PNG of filtered rows, whose header and chunks say what they are told to."""
    header = struct.pack(">IIBBBBB", *size, depth, color_type, 0, 0, interlaced)
    chunks = (png_chunk(b"IHDR", header), *before, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_rows(values: np.ndarray) -> bytes:
    """Rows of values with the mark that none is filtered."""
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(len(values), -1)
    return np.pad(rows, ((0, 0), (1, 0))).tobytes()


def make_interlaced_png(values: np.ndarray) -> bytes:
    """A PNG of RGB values in the seven passes of Adam7."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = b"".join(
        _png_rows(np.ascontiguousarray(values[top::down, left::across])) for top, left, down, across in passes
    )
    return make_png(rows, (values.shape[1], values.shape[0]), interlaced=True)


def add_sizes(corpus: Corpus) -> None:
    """One pixel, lines of one pixel, and very long pictures."""
    kind = "extreme sizes"
    for size in ((1, 1), (1, 97), (131, 1), (2, 2), (3, 99), (30_000, 1), (1, 30_000), (30_000, 40), (40, 30_000)):
        photo = corpus.photo(2, size)
        for format in ("png", "jpeg", "tiff", "bmp"):
            corpus.add(f"{size[0]}x{size[1]}.{format}", kind, "right", encode(photo, format.upper()))
    corpus.add("16383x3.webp", kind, "right", encode(corpus.photo(2, (16_383, 3)), "WEBP"))
    corpus.add("65500x2.jpg", kind, "right", encode(corpus.photo(2, (65_500, 2)), "JPEG"))
    for index, size in enumerate(((0, 5), (5, 0), (0, 0))):
        corpus.add(f"empty_{index}.png", kind, "refused", make_png(b"", size))
        corpus.add(f"empty_{index}.bmp", kind, "refused", _with_bmp_size(corpus, *size))
    corpus.add("3000x2000.jpg", kind, "right", encode(corpus.photo(2, (3000, 2000)), "JPEG"))


def _with_bmp_size(corpus: Corpus, width: int, height: int) -> bytes:
    content = bytearray(encode(corpus.photo(2), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def add_sequences(corpus: Corpus) -> None:
    """Files of several pictures, of which the first one counts."""
    kind = "animations and pages"
    frames = [corpus.photo(index) for index in range(3)]
    others = {"save_all": True, "append_images": frames[1:], "duration": 50}
    corpus.add("animated.gif", kind, "right", encode(frames[0], "GIF", **others))
    corpus.add("animated.webp", kind, "right", encode(frames[0], "WEBP", **others))
    corpus.add("animated.png", kind, "right", encode(frames[0], "PNG", **others))
    corpus.add("hidden_first.png", kind, "right", encode(frames[0], "PNG", default_image=True, **others))
    corpus.add("sequence.avif", kind, "right", encode(frames[0], "AVIF", **others))
    corpus.add("pages.tif", kind, "right", encode(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    corpus.add("pair.mpo", kind, "right", encode(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    mixed = [frames[1].convert("L"), frames[2].convert("1"), corpus.photo(4, (40, 30))]
    corpus.add("mixed_pages.tif", kind, "right", encode(frames[0], "TIFF", save_all=True, append_images=mixed))
    animation = encode(frames[0], "GIF", **others)
    corpus.add("cut_after_the_first.gif", kind, "right", animation[: len(animation) * 3 // 4])


def add_orientations(corpus: Corpus) -> None:
    """Photos that their EXIF turns, and EXIF that is broken."""
    kind = "EXIF orientations"
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        for format in ("JPEG", "PNG", "WEBP"):
            name = f"orientation_{orientation}.{format.lower()}"
            corpus.add(name, kind, "right", encode(corpus.photo(orientation), format, exif=exif))
        tags = {_ORIENTATION: orientation}
        name = f"orientation_{orientation}.tif"
        corpus.add(name, kind, "right", encode(corpus.photo(orientation), "TIFF", tiffinfo=tags))
    kind = "broken EXIF"
    for orientation in (0, 9, 65535):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        corpus.add(f"orientation_{orientation}.jpg", kind, "right", encode(corpus.photo(), "JPEG", exif=exif))
    whole = Image.Exif()
    whole[_ORIENTATION], whole[0x010F], whole[0x8769] = 6, "a camera", {0x9003: "2026:01:01 00:00:00"}
    content = whole.tobytes()
    loop = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\x08"
    for name, exif in {
        "words": b"Exif\0\0no such thing",
        "empty": b"Exif\0\0",
        "cut": content[: len(content) // 2],
        "without_its_entries": content[:16],
        "endless": loop,
        "lying_count": content[:14] + b"\xff\xff" + content[16:],
        "orientation_as_text": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04six\0\0\0\0\0",
        "orientation_as_fraction": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x05\0\0\0\x01\0\0\xff\xff\0\0\0\0",
        "two_orientations": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x02\0\x06\0\x08\0\0\0\0",
    }.items():
        for format in ("JPEG", "PNG", "WEBP"):
            corpus.add(f"exif_{name}.{format.lower()}", kind, "as decoded", encode(corpus.photo(), format, exif=exif))


def add_color_profiles(corpus: Corpus) -> None:
    """ICC profiles, whole and broken: pixels are taken as they are stored."""
    kind = "ICC profiles"
    profiles = {
        "srgb": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "lab": ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        "words": b"no profile at all",
        "empty": b"",
        "large": b"\0" * 3_000_000,
    }
    profiles["cut"] = profiles["srgb"][:100]
    for name, profile in profiles.items():
        for format in ("JPEG", "PNG", "WEBP", "TIFF"):
            content = encode(corpus.photo(7), format, icc_profile=profile)
            corpus.add(f"profile_{name}.{format.lower()}", kind, "as decoded", content)


def add_wrong_names(corpus: Corpus) -> None:
    """Pictures of one format with the ending of another: what they hold counts."""
    kind = "wrong endings"
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"):
        for suffix in (".jpg", ".png", ".bmp"):
            if format in Image.SAVE and Image.EXTENSION[suffix.lower()] != format:
                corpus.add(f"{format}{suffix}".lower(), kind, "right", encode(corpus.photo(8), format))
    # That of TIFF promises parts that can be read one at a time.
    corpus.add("jpeg_named.tif", kind, "right", encode(corpus.photo(8), "JPEG"))


def add_odd_names(corpus: Corpus) -> None:
    """Names that break commands and printing."""
    kind = "odd names"
    content = encode(corpus.photo(9), "JPEG")
    names = [
        "with several  spaces.jpg",
        "two\nlines.jpg",
        "tab\tand\rreturn.jpg",
        "bell\x07and\x1b[31mred.jpg",
        "-leading-dash.jpg",
        "--model.jpg",
        "日本語.jpg",
        "e\u0301té.jpg",
        "🚲.jpg",
        "\u202egpj.fdp.jpg",
        "quote'\"`$(id)`.jpg",
        "percent%20%s{0}.jpg",
        "back\\slash.jpg",
        "semi;colon&.jpg",
        "UPPER.JPG",
        "two.dots..jpg",
        ".jpg.jpg.jpg",
        "x" * 251 + ".jpg",
        "é" * 125 + ".jpg",
        "a folder/and another/photo.jpg",
        "photo.png.d/photo.jpg",
    ]
    for name in names:
        if not name.startswith("."):  # hidden files are no photos of a folder
            corpus.add(name, kind, "right", content)
    corpus.add(os.fsdecode(b"latin-\xe9.jpg"), kind, "right", content)
    corpus.add("broken two\nlines.jpg", kind, "refused", b"no picture")
    corpus.add(os.fsdecode(b"broken-\xff\xfe.jpg"), kind, "refused", b"no picture")
    corpus.add("broken %s {0} \x1b[31m.jpg", kind, "refused", b"no picture")


# --- no pictures


def add_no_pictures(corpus: Corpus) -> None:
    """Other files with the name of a picture."""
    kind = "no pictures"
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    array = io.BytesIO()
    np.save(array, np.zeros((4, 4, 3), np.uint8))
    for name, content in {
        "empty": b"",
        "one_byte": b"\xff",
        "newline": b"\n",
        "text": b"Dies ist ein Text.\n" * 50,
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
        "pdf": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
        "postscript": postscript,
        "postscript_in_dos": struct.pack("<4sIII", b"\xc5\xd0\xd3\xc6", 32, len(postscript), 0)
        + b"\0" * 16
        + postscript,
        "zip": b"PK\x05\x06" + b"\0" * 18,
        "elf": b"\x7fELF" + b"\0" * 200,
        "npy": array.getvalue(),
        "pickle": b"\x80\x04\x95\x05\0\0\0\0\0\0\0]\x94.",
        "safetensors": struct.pack("<Q", 2) + b"{}",
        "heif": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100,
        "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isomiso2" + b"\0" * 100,
        "zeros": b"\0" * 10_000,
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "random": corpus.generator.bytes(5_000),
        "jpeg_start": b"\xff\xd8\xff\xe0",
        "png_start": b"\x89PNG\r\n\x1a\n",
        "gif_start": b"GIF89a",
        "tiff_start": b"II*\0\x08\0\0\0",
        "webp_start": b"RIFF\x04\0\0\0WEBP",
        "fits": b"SIMPLE  =                    T" + b" " * 50,
        "hdf5": b"\x89HDF\r\n\x1a\n" + b"\0" * 100,
        "wmf": b"\xd7\xcd\xc6\x9a\0\0"
        + b"\0\0\0\0\x10\0\x10\0"
        + b"\xe8\x03"
        + b"\0" * 6
        + b"\x01\0\x09\0"
        + b"\0" * 50,
        "bufr": b"BUFR" + b"\0" * 50,
        "grib": b"GRIB\0\0\0\x01" + b"\0" * 50,
    }.items():
        for suffix in (".jpg", ".png") if name in ("empty", "text", "postscript", "pdf", "svg") else (".jpg",):
            corpus.add(f"is_{name}{suffix}", kind, "refused", content)
    corpus.add("is_text.tif", kind, "refused", b"no picture")


def add_odd_places(corpus: Corpus) -> None:
    """What is no file, or none that can be opened."""
    kind = "folders, links, pipes, rights"
    photo = encode(corpus.photo(10), "JPEG")
    elsewhere = corpus.folder.with_name("elsewhere.jpg")
    elsewhere.write_bytes(photo)
    corpus.add("linked.jpg", kind, "right").symlink_to(elsewhere)
    corpus.add("dangling.jpg", kind, "refused").symlink_to("nowhere.jpg")
    corpus.add("loop.jpg", kind, "refused").symlink_to("loop.jpg")
    os.mkfifo(corpus.add("pipe.jpg", kind, "refused"))
    device = corpus.add("device.jpg", kind, "refused")
    device.symlink_to("/dev/null")
    # Nobody may read it, but those who may read everything.
    corpus.add("locked.jpg", kind, "refused", photo).chmod(0)
    corpus.add("read_only.jpg", kind, "right", photo).chmod(0o400)
    (corpus.folder / "folder.jpg").mkdir()
    corpus.add("folder.jpg/photo.jpg", kind, "right", photo)


def add_lying_headers(corpus: Corpus) -> None:
    """Decompression bombs, and headers that promise what does not follow."""
    kind = "bombs and lying headers"
    rows = zlib.compressobj(9)
    row = bytes(1 + 60_000 // 8)
    data = b"".join(rows.compress(row * 1000) for _ in range(60)) + rows.flush()
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    corpus.add("bomb_60000.png", kind, "refused", bomb)
    corpus.add("bomb_14000.png", kind, "refused", make_png(bytes(14_000 * 1751), (14_000, 14_000), 1, 0))
    corpus.add("huge_header.png", kind, "refused", make_png(b"", (2**31 - 1, 2**31 - 1)))
    zeros = zlib.compress(bytes(200_000_000), 9)
    photo = np.asarray(corpus.photo(11))
    corpus.add(
        "text_bomb.png",
        kind,
        "as decoded",
        make_png(_png_rows(photo), PHOTO_SIZE, 8, 2, False, png_chunk(b"zTXt", b"Comment\0\0" + zeros)),
    )
    corpus.add(
        "profile_bomb.png",
        kind,
        "as decoded",
        make_png(_png_rows(photo), PHOTO_SIZE, 8, 2, False, png_chunk(b"iCCP", b"profile\0\0" + zeros)),
    )
    too_short = make_png(_png_rows(photo[:50]), PHOTO_SIZE)
    corpus.add("rows_missing.png", kind, "as decoded", too_short)
    corpus.add("rows_too_many.png", kind, "as decoded", make_png(_png_rows(photo) * 2, PHOTO_SIZE))
    corpus.add("unknown_depth.png", kind, "refused", make_png(_png_rows(photo), PHOTO_SIZE, 7))
    corpus.add("unknown_color_type.png", kind, "refused", make_png(_png_rows(photo), PHOTO_SIZE, 8, 5))
    corpus.add("no_palette.png", kind, "as decoded", make_png(_png_rows(photo[..., 0]), PHOTO_SIZE, 8, 3))
    corpus.add("two_headers.png", kind, "as decoded", make_png(_png_rows(photo), PHOTO_SIZE, 8, 2, False, header))
    whole = encode(corpus.photo(11), "PNG")
    for chunk in (b"IHDR", b"IDAT", b"IEND"):
        place = whole.index(chunk) + 4 + struct.unpack(">I", whole[whole.index(chunk) - 4 : whole.index(chunk)])[0]
        wrong = whole[:place] + bytes(byte ^ 0xFF for byte in whole[place : place + 4]) + whole[place + 4 :]
        corpus.add(f"wrong_checksum_{chunk.decode()}.png", kind, "as decoded", wrong)

    gif = encode(corpus.photo(11), "GIF")
    corpus.add("huge_screen.gif", kind, "refused", gif[:6] + b"\xff\xff\xff\xff" + gif[10:])
    place = gif.index(b",", 13 + 768)
    corpus.add("huge_frame.gif", kind, "refused", gif[: place + 5] + b"\xff\xff\xff\xff" + gif[place + 9 :])
    corpus.add("far_frame.gif", kind, "refused", gif[: place + 1] + b"\xff\xff\xff\xff" + gif[place + 5 :])
    corpus.add("empty_screen.gif", kind, "as decoded", gif[:6] + b"\0\0\0\0" + gif[10:])

    jpeg = encode(corpus.photo(11), "JPEG")
    frame = jpeg.index(b"\xff\xc0") + 5
    corpus.add("huge_header.jpg", kind, "refused", jpeg[:frame] + b"\xff\xdc\xff\xdc" + jpeg[frame + 4 :])
    corpus.add("taller_than_it_is.jpg", kind, "as decoded", jpeg[:frame] + b"\x01\x00" + jpeg[frame + 2 :])
    corpus.add("no_height.jpg", kind, "refused", jpeg[:frame] + b"\0\0" + jpeg[frame + 2 :])
    corpus.add("twelve_bits.jpg", kind, "refused", jpeg[: frame - 1] + b"\x0c" + jpeg[frame:])
    corpus.add("called_arithmetic.jpg", kind, "as decoded", jpeg.replace(b"\xff\xc0", b"\xff\xc9", 1))
    corpus.add("called_lossless.jpg", kind, "as decoded", jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1))
    corpus.add("no_tables.jpg", kind, "as decoded", jpeg.replace(b"\xff\xdb", b"\xff\xed"))

    bmp = bytearray(encode(corpus.photo(11), "BMP"))
    for name, width, height in (("huge", 60_000, 60_000), ("wider", 5_000, 49), ("negative", -67, 49)):
        corpus.add(
            f"{name}_header.bmp", kind, "refused", bytes(bmp[:18]) + struct.pack("<ii", width, height) + bytes(bmp[26:])
        )
    upside_down = bytes(bmp[:18]) + struct.pack("<ii", PHOTO_SIZE[0], -PHOTO_SIZE[1]) + bytes(bmp[26:])
    corpus.add("upside_down.bmp", kind, "right", upside_down)
    webp = encode(corpus.photo(11), "WEBP", exif=Image.Exif().tobytes())  # in the extended layout
    canvas = webp.index(b"VP8X") + 12
    corpus.add("huge_canvas.webp", kind, "refused", webp[:canvas] + b"\xff\x3f\x00\xff\x3f\x00" + webp[canvas + 6 :])
    ico = bytearray(encode(corpus.photo(11, (32, 32)), "ICO", sizes=[(32, 32)]))
    inside = ico.index(b"IHDR") + 4
    corpus.add("huge_inside.ico", kind, "refused", bytes(ico[:inside]) + b"\0\0\xea\x60" * 2 + bytes(ico[inside + 8 :]))
    corpus.add("huge_header.ppm", kind, "refused", b"P6 60000 60000 255\n\0\0\0")
    corpus.add("huge_number.ppm", kind, "refused", b"P6 " + b"9" * 50 + b" 1 255\n\0\0\0")
    corpus.add(
        "huge_header.tga", kind, "refused", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 60_000, 60_000, 24, 0)
    )
    add_lying_tiffs(corpus, kind)


def add_lying_tiffs(corpus: Corpus, kind: str) -> None:
    """TIFF files one of whose fields is another than it should be."""
    for byteorder in ("II", "MM"):
        for name, tags, expected in (
            ("huge", {256: 60_000, 257: 60_000}, "refused"),
            ("larger", {256: 500, 257: 500}, "as decoded"),
            ("huge_count", {279: 2**31}, "as decoded"),
            ("far_away", {273: 2**31}, "refused"),
            ("many_samples", {277: 65_535}, "refused"),
            ("no_width", {256: 0}, "refused"),
            ("unknown_packing", {259: 12_345}, "refused"),
            ("unknown_color", {262: 99}, "refused"),
            ("huge_rows", {278: 2**31}, "as decoded"),
            ("deep", {258: 64}, "as decoded"),
            ("wrong_deflate", {259: 8}, "refused"),
            ("wrong_jpeg", {259: 7}, "refused"),
            ("wrong_lzw", {259: 5}, "as decoded"),
        ):
            corpus.add(
                f"{name}_{byteorder}.tif", kind, expected, make_tiff(np.asarray(corpus.photo(11)), byteorder, tags)
            )
    loop = bytearray(make_tiff(np.asarray(corpus.photo(11)), "II", {}))
    end = 8 + 2 + 12 * struct.unpack("<H", loop[8:10])[0]
    loop[end : end + 4] = struct.pack("<I", 8)
    corpus.add("endless_pages.tif", kind, "right", bytes(loop))


def make_tiff(values: np.ndarray, byteorder: str, tags: dict[int, int]) -> bytes:
    """An unpacked TIFF of RGB values with some of its fields changed."""
    order = "<" if byteorder == "II" else ">"
    height, width, channels = values.shape
    fields = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 273: 0, 277: channels, 278: height, 279: values.size}
    first = 8 + 2 + 12 * len(fields) + 4
    fields = {**fields, 273: first, **tags}
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    start = byteorder.encode() + struct.pack(f"{order}HI", 42, 8)
    return start + struct.pack(f"{order}H", len(fields)) + entries + b"\0\0\0\0" + values.tobytes()


# --- damaged pictures

_DAMAGED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("jpg", "JPEG", {}),
    ("progressive.jpg", "JPEG", {"progressive": True}),
    ("png", "PNG", {}),
    ("webp", "WEBP", {}),
    ("lossless.webp", "WEBP", {"lossless": True}),
    ("gif", "GIF", {}),
    ("bmp", "BMP", {}),
    ("tif", "TIFF", {}),
    ("lzw.tif", "TIFF", {"compression": "tiff_lzw"}),
    ("deflate.tif", "TIFF", {"compression": "tiff_deflate"}),
    ("avif", "AVIF", {}),
    ("jp2", "JPEG2000", {}),
)


def make_whole_ones(corpus: Corpus) -> dict[str, bytes]:
    """A photo in each format that is to be damaged, by the ending of its name."""
    return {
        suffix: encode(corpus.photo(index), format, **settings)
        for index, (suffix, format, settings) in enumerate(_DAMAGED)
        if format in Image.SAVE
    }


def add_truncated(corpus: Corpus) -> None:
    """Pictures that end too early, as after a download that broke off."""
    for suffix, content in make_whole_ones(corpus).items():
        for share in (0.01, 0.1, 0.3, 0.6, 0.9, 0.99):
            cut = content[: int(len(content) * share)]
            corpus.add(f"cut_at_{share * 1000:03.0f}.{suffix}", "truncated", "as decoded", cut)
        corpus.add(f"without_its_last_byte.{suffix}", "truncated", "as decoded", content[:-1])


def add_flipped_bytes(corpus: Corpus) -> None:
    """Pictures some of whose bytes are others, as after a bad disk: in the header, or anywhere."""
    for suffix, content in make_whole_ones(corpus).items():
        for index in range(12):
            damaged = bytearray(content)
            end = 200 if index < 4 else len(content)
            for place in corpus.generator.integers(0, min(end, len(content)), size=(1, 5, 20, 200)[index % 4]):
                damaged[place] ^= int(corpus.generator.integers(1, 256))
            corpus.add(f"flipped_{index}.{suffix}", "flipped bytes", "as decoded", bytes(damaged))


# --- masks

NUM_CLASSES = 5
_IGNORED = 255


def make_masks(folder: Path, photos: Path) -> list[tuple[Case, np.ndarray | None]]:
    """
    Write a data set of one photo to each mask of every kind, of five classes.

    Returns:
        `list[tuple[Case, numpy.ndarray]]`: the masks and the ids that each holds, `None` where it must be refused.
    """
    corpus = Corpus(folder / "validation" / "annotations", photos)
    images = folder / "validation" / "images"
    images.mkdir(parents=True)
    kind = "masks"
    photo = corpus.photo(4)
    ids = make_ids(photo)
    mask = Image.fromarray(ids)
    with_palette = mask.copy()
    with_palette.putpalette([value for index in range(256) for value in (index, 255 - index, 7 * index % 256)])
    binary = (ids > 1).astype(np.uint8)
    png = encode(mask, "PNG")
    exif = Image.Exif()
    exif[_ORIENTATION] = 3
    held: list[np.ndarray | None] = []

    def add(name: str, content: bytes | None, holds: np.ndarray | None) -> Path:
        held.append(holds)
        name = f"{Path(name).stem}_{Path(name).suffix[1:]}{Path(name).suffix}"  # pairs go by what is before the dot
        (images / f"{Path(name).stem}.jpg").write_bytes(encode(photo, "JPEG"))
        return corpus.add(name, kind, "refused" if holds is None else "right", content)

    right = {
        "grey.png": png,
        "palette.png": encode(with_palette, "PNG"),
        "palette_transparent.png": encode(with_palette, "PNG", transparency=2),
        "grey_transparent.png": encode(mask, "PNG", transparency=1),
        "palette.gif": encode(with_palette, "GIF", optimize=False),
        "palette.bmp": encode(with_palette, "BMP"),
        "sixteen_bit.png": encode(Image.fromarray(ids.astype(np.uint16)), "PNG"),
        "integers.tif": encode(Image.fromarray(ids.astype(np.int32)), "TIFF"),
        "big_endian_sixteen_bit.tif": _with_tifffile(ids.astype(np.uint16), byteorder=">"),
        "packed.tif": encode(mask, "TIFF", compression="tiff_lzw"),
        "pages.tif": encode(mask, "TIFF", save_all=True, append_images=[Image.new("L", PHOTO_SIZE, 3)]),
        "png_named.bmp": png,
        "odd {0} %s\nname.png": png,
        "profile.png": encode(mask, "PNG", icc_profile=b"no profile at all"),
        "broken_exif.png": encode(mask, "PNG", exif=b"Exif\0\0no such thing"),
    }
    for name, content in right.items():
        add(name, content, ids)
    add("turned.png", encode(Image.fromarray(ids[::-1, ::-1]), "PNG", exif=exif), ids)
    add("one_bit.png", encode(Image.fromarray(binary * 255).convert("1"), "PNG"), binary)
    add("one_bit.tif", encode(Image.fromarray(binary * 255).convert("1"), "TIFF"), binary)
    two_colors = Image.fromarray(binary)
    two_colors.putpalette([200, 0, 0, 0, 200, 0])
    add("one_bit_palette.png", encode(two_colors, "PNG", bits=1), binary)

    beyond = ids.astype(np.int32)
    beyond[3, 4] = 60_000
    refused = {
        "rgb.png": encode(photo, "PNG"),
        "rgb_of_ids.png": encode(Image.merge("RGB", [mask] * 3), "PNG"),
        "rgba.png": encode(photo.convert("RGBA"), "PNG"),
        "la.png": encode(mask.convert("LA"), "PNG"),
        "cmyk.tif": encode(photo.convert("CMYK"), "TIFF"),
        "lab.tif": encode(_to_lab(photo), "TIFF"),
        "floats.tif": encode(Image.fromarray(ids.astype(np.float32)), "TIFF"),
        "two_bits.png": make_png(_png_rows(np.packbits(_bits(ids << 6, 2), axis=1)), PHOTO_SIZE, 2, 0),
        "half_the_size.png": encode(mask.resize((33, 24)), "PNG"),
        "turned_by_90.png": encode(mask.transpose(Image.Transpose.ROTATE_90), "PNG"),
        "one_row_more.png": encode(mask.crop((0, 0, 67, 50)), "PNG"),
        "one_pixel.png": encode(Image.new("L", (1, 1)), "PNG"),
        "counted_from_1.png": encode(Image.fromarray(np.where(ids == _IGNORED, 0, ids + 1).astype(np.uint8)), "PNG"),
        "out_of_range.png": encode(Image.fromarray(np.where(ids == 4, 200, ids).astype(np.uint8)), "PNG"),
        "far_out_of_range.png": encode(Image.fromarray(beyond.astype(np.uint16)), "PNG"),
        "negative.tif": encode(Image.fromarray(beyond - 60_001), "TIFF"),
        "shades.png": encode(photo.convert("L"), "PNG"),
        "empty.png": b"",
        "text.png": b"no picture",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 67 49\n%%EndComments\nshowpage\n%%EOF\n",
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="67" height="49"/>',
        "bomb.png": make_png(b"", (60_000, 60_000), 1, 0),
        "wrong_checksum.png": png.replace(b"IHDR\0\0\0", b"IHDR\0\0\1", 1),
        "broken two\nlines.png": b"no picture",
        **{f"cut_at_{share}.png": png[: len(png) * share // 100] for share in (1, 10, 50, 90)},
        "cut.tif": encode(mask, "TIFF")[:1500],
        "cut.gif": encode(with_palette, "GIF")[:900],
    }
    for name, content in refused.items():
        add(name, content, None)
    add("dangling.png", None, None).symlink_to("nowhere.png")
    os.mkfifo(add("pipe.png", None, None))
    return list(zip(corpus.cases, held))


def make_ids(photo: Image.Image) -> np.ndarray:
    """Ids of five classes by a photo's brightness, and a frame that is ignored: `(height, width)`, uint8."""
    ids = np.asarray(photo.convert("L")) // 52
    ids[:2] = _IGNORED
    return ids


# --- arrays


@dataclass(frozen=True)
class ArrayCase:
    """
    An array.

    Args:
        name (`str`): What it is.
        array (`Any`): The array.
        pixels (`numpy.ndarray` of shape `(height, width, 3)`, uint8, *optional*): The picture that it is; `None` where
            it must be refused.
        settings (`dict`, *optional*): What else the image processor is told.
    """

    name: str
    array: Any
    pixels: np.ndarray | None
    settings: dict[str, Any]


def make_arrays(folder: Path, photos: Path) -> list[ArrayCase]:
    """Arrays of every kind; the mapped one lies in the folder."""
    corpus = Corpus(folder, photos)
    rgb = np.array(corpus.photo(0))
    grey = np.asarray(corpus.photo(0).convert("L"))
    as_rgb = np.repeat(grey[..., None], 3, axis=-1)
    np.save(folder / "mapped.npy", rgb)
    locked = rgb.copy()
    locked.flags.writeable = False
    white = np.full_like(rgb[..., :1], 255)
    holes = rgb / np.float32(255)
    holes[5, 6, 1] = np.nan
    last = rgb / np.float32(255)
    last[-1, -1, -1] = np.inf
    beyond = rgb.astype(np.int64)
    beyond[7, 8, 2] = 10**12
    first = {"input_data_format": "channels_first"}
    right = {
        "plain": (rgb, rgb, {}),
        "channels first": (np.ascontiguousarray(rgb.transpose(2, 0, 1)), rgb, {}),
        "channels first, a view": (rgb.transpose(2, 0, 1), rgb, first),
        "Fortran order": (np.asfortranarray(rgb), rgb, {}),
        "negative strides": (rgb[::-1, ::-1], rgb[::-1, ::-1], {}),
        "every second pixel": (rgb[::2, 1::2], rgb[::2, 1::2], {}),
        "stretched": (np.broadcast_to(rgb[:1, :1], rgb.shape), np.broadcast_to(rgb[:1, :1], rgb.shape), {}),
        "read-only": (locked, rgb, {}),
        "mapped": (np.load(folder / "mapped.npy", mmap_mode="r"), rgb, {}),
        "grey": (grey, as_rgb, {}),
        "grey of one channel": (grey[..., None], as_rgb, {}),
        "grey, channel first": (grey[None], as_rgb, {}),
        "four channels": (np.concatenate([rgb, white], axis=-1), rgb, {}),
        "four channels in floats": (np.concatenate([rgb, white], axis=-1).astype(np.float32), rgb, {}),
        "four channels, transparent": (np.concatenate([rgb, 0 * white], axis=-1), np.full_like(rgb, 255), {}),
        "four channels of int32": (np.concatenate([rgb, white], axis=-1).astype(np.int32), rgb, {}),
        "grey of int32": (grey.astype(np.int32), as_rgb, {}),
        "bool": (grey > 99, np.repeat(np.uint8(grey > 99)[..., None] * 255, 3, axis=-1), {}),
        "uint16": (rgb.astype(np.uint16) * 257, rgb, {}),
        "big-endian uint16": (rgb.astype(">u2") * np.uint16(257).astype(">u2"), rgb, {}),
        "big-endian int32": (rgb.astype(">i4"), rgb, {}),
        "big-endian float32": (rgb.astype(">f4"), rgb, {}),
        "int16": (rgb.astype(np.int16), rgb, {}),
        "int32": (rgb.astype(np.int32), rgb, {}),
        "int64": (rgb.astype(np.int64), rgb, {}),
        "uint32": (rgb.astype(np.uint32), rgb, {}),
        "uint64": (rgb.astype(np.uint64), rgb, {}),
        "float16": (rgb.astype(np.float16), rgb, {}),
        "float32": (rgb.astype(np.float32), rgb, {}),
        "float64": (rgb.astype(np.float64), rgb, {}),
        "longdouble": (rgb.astype(np.longdouble), rgb, {}),
        "one pixel": (rgb[:1, :1], rgb[:1, :1], {"input_data_format": "channels_last"}),
        "one row": (rgb[:1], rgb[:1], {"input_data_format": "channels_last"}),
        "one column": (rgb[:, :1], rgb[:, :1], {}),
        "subclass": (rgb.view(np.memmap), rgb, {}),
    }
    refused = {
        "NaN": (holes, {}),
        "infinite in its last pixel": (last, {}),
        "NaN in float16": (holes.astype(np.float16), {}),
        "NaN in grey": (holes[..., 1], {}),
        "int64 out of range": (beyond, {}),
        "uint64 out of range": (beyond.astype(np.uint64), {}),
        "int16 below 0": (rgb.astype(np.int16) - 128, {}),
        "int8": (rgb.view(np.int8), {}),
        "objects": (rgb.astype(object), {}),
        "complex": (rgb.astype(complex), {}),
        "strings": (rgb.astype(str), {}),
        "bytes": (rgb.astype("S3"), {}),
        "dates": (rgb.astype("datetime64[s]"), {}),
        "structured": (np.zeros((20, 30), dtype=[("r", "u1"), ("g", "u1"), ("b", "u1")]), {}),
        "two channels": (rgb[..., :2], {}),
        "five channels": (np.concatenate([rgb, rgb[..., :2]], axis=-1), {}),
        "no rows": (rgb[:0], {}),
        "no columns": (rgb[:, :0], {}),
        "no channels": (rgb[..., :0], {}),
        "no pixels of grey": (grey[:0], {}),
        "0 dimensions": (np.array(7), {}),
        "1 dimension": (rgb.ravel(), {}),
        "5 dimensions": (rgb[None, None], {}),
        "an empty batch": (rgb[None][:0], {}),
        "an empty list": ([], {}),
        "a list of numbers": ([[1, 2], [3, 4]], {}),
        "nothing": (None, {}),
    }
    # What only the image processor is told: the Segmenter finds it out by itself.
    declared_wrongly = {
        "declared channels first, but last": (rgb, first),
        "declared channels last, but first": (rgb.transpose(2, 0, 1), {"input_data_format": "channels_last"}),
        "declared an unknown order": (rgb, {"input_data_format": "middle"}),
        "declared too many channels": (np.dstack([rgb, rgb]), {"input_data_format": "channels_last"}),
    }
    cases = [ArrayCase(name, array, pixels, settings) for name, (array, pixels, settings) in right.items()]
    cases += [ArrayCase(name, array, None, settings) for name, (array, settings) in refused.items()]
    return cases + [ArrayCase(name, array, None, settings) for name, (array, settings) in declared_wrongly.items()]
