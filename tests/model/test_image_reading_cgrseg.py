# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Files, PIL images, arrays and tensors of every kind to pixels, or errors that name the source and the remedy."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, features

from cgrseg_hf import CGRSegImageProcessor, CGRSegImageProcessorPil
from cgrseg_hf.data.layouts import list_images
from cgrseg_hf.engines.torch_engine import TorchEngine
from cgrseg_hf.inference import Segmenter
from cgrseg_hf.inference.image_rows import open_rows
from cgrseg_hf.model.image_formats_cgrseg import IMAGE_SUFFIXES
from cgrseg_hf.model.image_reading_cgrseg import (
    FORMATS,
    UnreadableImageError,
    open_image,
    read_image,
    to_photo,
)

PHOTO = sorted((Path(__file__).parents[1] / "fixtures" / "photos" / "images").glob("*.jpg"))[0]


@pytest.fixture
def image() -> Image.Image:
    """A small image with another colour in every corner."""
    array = np.zeros((6, 10, 3), dtype=np.uint8)
    array[:3, :5], array[:3, 5:], array[3:, :5], array[3:, 5:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (99, 180, 30)
    return Image.fromarray(array)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_color_modes_look_the_same(image, mode):
    converted = image.quantize(16) if mode == "P" else image.convert(mode)
    difference = read_image(converted).astype(int) - np.asarray(image)
    assert np.abs(difference).max() <= (3 if mode in ("YCbCr", "HSV") else 0)


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16", "I", "I narrow", "F", "F to 1"])
def test_grey_modes_look_the_same(mode):
    grey = np.array([[0, 255, 0], [255, 0, 255]], dtype=np.uint8)
    stored = {
        "I;16": lambda: Image.fromarray(grey.astype(np.uint16) * 257),
        "I": lambda: Image.fromarray(grey.astype(np.int32) * 257),
        "I narrow": lambda: Image.fromarray(grey.astype(np.int32)),
        "F": lambda: Image.fromarray(grey.astype(np.float32)),
        "F to 1": lambda: Image.fromarray(grey.astype(np.float32) / 255),
    }.get(mode, lambda: Image.fromarray(grey).convert(mode))()
    assert stored.mode == mode.split()[0]
    np.testing.assert_array_equal(read_image(stored), np.repeat(grey[..., None], 3, axis=2))


def test_transparent_pixels_are_white():
    palette = Image.new("P", (4, 4), 3)
    palette.info["transparency"] = 3
    for transparent in (Image.new("RGBA", (4, 4), (10, 20, 30, 0)), palette):
        assert (read_image(transparent) == 255).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_arrays_with_transparency(dtype):
    array = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 51]]] * 5, dtype=dtype)
    expected = np.array([[[10, 20, 30], [255, 255, 255], [204, 224, 244]]] * 5)
    scaled = [array / np.float32(255)] if dtype == np.float32 else []
    for source in (array, torch.from_numpy(array), *scaled):
        np.testing.assert_allclose(read_image(source), expected, atol=1e-3)


def test_lab_files(tmp_path):
    with Image.open(PHOTO) as photo:
        photo = photo.convert("RGB").resize((40, 30))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    ImageCms.profileToProfile(photo, srgb, lab, outputMode="LAB").save(tmp_path / "lab.tif")
    assert np.abs(read_image(tmp_path / "lab.tif").astype(int) - np.asarray(photo)).mean() < 2


def test_exif_turns_images(image, tmp_path):
    """Also where the EXIF holds an entry of a kind that cannot be written anew; damaged EXIF turns nothing."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: the stored image must be turned by 90 degrees clockwise
    entries = [(0x0112, 3, 1, b"\0\6\0\0"), (0x8769, 4, 1, b"\xff\xff\xff\xff")]
    partly = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries))
    partly += b"".join(struct.pack(">HHI", *one[:3]) + one[3] for one in entries) + bytes(4)
    turned = np.rot90(np.asarray(image), k=-1)
    for content, expected in ((exif, turned), (partly, turned), (b"Exif\0\0no such thing", np.asarray(image))):
        image.save(tmp_path / "image.png", exif=content)
        np.testing.assert_array_equal(read_image(tmp_path / "image.png"), expected)
        with Image.open(tmp_path / "image.png") as opened:
            np.testing.assert_array_equal(to_photo(opened), expected)


def test_sources_and_layouts_of_one_image(image, tmp_path):
    image.save(tmp_path / "image.png")
    array = np.asarray(image)
    deep = array.astype(np.uint16) * 257
    sources = [image, tmp_path / "image.png", str(tmp_path / "image.png"), (tmp_path / "image.png").open("rb")]
    sources += [array, array.transpose(2, 0, 1), np.asfortranarray(array), deep, deep.astype(">u2")]
    sources += [torch.tensor(array), torch.tensor(array).permute(2, 0, 1), torch.tensor(deep)]
    for source in sources:
        np.testing.assert_array_equal(read_image(source), array)
    for turned in (array[::-1, ::-1], array[:1, :1][::-1]):  # negative strides
        np.testing.assert_array_equal(read_image(turned), turned)
    np.testing.assert_array_equal(read_image(array[..., 0])[..., 1], array[..., 0])
    np.testing.assert_array_equal(read_image(array[:3, :, 0])[..., 1], array[:3, :, 0])  # not three channels
    np.testing.assert_array_equal(read_image(array[..., 0] > 0)[..., 1], (array[..., 0] > 0) * 255)


def test_arrays_with_two_axes_that_could_be_the_channels(image):
    """A strip three pixels high: arrays have their channels last, tensors first."""
    rows = np.asarray(image)[:3]
    for source in (rows, torch.tensor(rows).permute(2, 0, 1)):
        np.testing.assert_array_equal(read_image(source), rows)


@pytest.mark.parametrize("dtype", [">i4", ">f4", np.int16, np.uint32, np.uint64, np.float16, np.float64, np.longdouble])
def test_arrays_of_every_type(image, dtype):
    array = np.asarray(image)
    np.testing.assert_array_equal(read_image(array.astype(dtype)), array)
    np.testing.assert_array_equal(read_image(array[..., 1].astype(dtype))[..., 2], array[..., 1])


@pytest.mark.parametrize("kind", ["array", "double", "tensor", "bfloat16", "PIL image", "TIFF", "windows", "npy"])
def test_one_rule_for_floats(decided_model, tmp_path, kind):
    """Floats without a value above 1 go from 0 to 1, in the reader, image processors, Segmenter and windows alike."""
    whole = np.random.default_rng(0).integers(0, 2, (64, 96), dtype=np.uint8).repeat(1, 0) * np.uint8(255)
    floats = whole.astype(np.float32) / 255
    Image.fromarray(floats).save(tmp_path / "floats.tif")
    np.save(tmp_path / "floats.npy", floats)
    source = {
        "array": floats,
        "double": floats.astype(np.float64),
        "tensor": torch.from_numpy(floats),
        "bfloat16": torch.from_numpy(floats).bfloat16(),
        "PIL image": Image.fromarray(floats),
        "TIFF": tmp_path / "floats.tif",
    }.get(kind, floats)
    tile = 64 if kind in ("windows", "npy") else None
    processors = [one(size={"height": 64, "width": 96}) for one in (CGRSegImageProcessor, CGRSegImageProcessorPil)]
    for processor in processors:
        expected = processor(whole, return_tensors="pt").pixel_values
        torch.testing.assert_close(processor(source, return_tensors="pt").pixel_values, expected)
    segmenter = Segmenter(TorchEngine(decided_model, "cpu", torch.float32), processors[0])
    segmented = tmp_path / "floats.npy" if kind == "npy" else source
    np.testing.assert_array_equal(segmenter(segmented, tile=tile).label_map, segmenter(whole, tile=tile).label_map)


def test_final_floats_are_neither_scaled_nor_refused(decided_model):
    floats = np.random.default_rng(0).random((64, 96, 3), dtype=np.float32)
    final = {"do_rescale": False, "do_normalize": False, "do_resize": False}
    for source in (floats, floats - 3, torch.from_numpy(floats), Image.fromarray(floats[..., 0])):
        values = CGRSegImageProcessor(**final)(source, return_tensors="pt").pixel_values[0].permute(1, 2, 0)
        stored = np.asarray(source)
        torch.testing.assert_close(values, torch.tensor(stored if stored.ndim == 3 else stored[..., None].repeat(3, 2)))
    engine = TorchEngine(decided_model, "cpu", torch.float32)
    one = Segmenter(engine, CGRSegImageProcessor(**final))(floats).label_map
    other = Segmenter(engine, CGRSegImageProcessor(do_normalize=False, do_resize=False))(floats).label_map
    np.testing.assert_array_equal(one, other)


def test_floats_of_a_decoded_image_are_scaled_once():
    dark = Image.fromarray(np.full((40, 50), 0.003, np.float32))
    pixels = read_image(dark)
    assert pixels.max() == pytest.approx(0.765)
    np.testing.assert_array_equal(open_rows(dark).read(0, 40), pixels)
    assert np.asarray(to_photo(pixels)).max() == 1


@pytest.mark.parametrize("processor_class", [CGRSegImageProcessor, CGRSegImageProcessorPil])
def test_sixteen_bits_with_a_factor_of_the_image_processor(processor_class):
    values = np.linspace(0, 65535, 12, dtype=np.uint16).reshape(3, 4)
    processor = processor_class(rescale_factor=1 / 65535, do_normalize=False, do_resize=False, do_pad=False)
    for source in (values, Image.fromarray(values)):
        scaled = processor(source, return_tensors="pt").pixel_values[0, 0]
        torch.testing.assert_close(scaled, torch.from_numpy(values / 65535).float())


def test_a_dark_band_of_floats_stays_dark():
    floats = np.concatenate([np.full((40, 8, 3), 0.5, np.float32), np.full((40, 8, 3), 200, np.float32)])
    assert (open_rows(floats).read(0, 10) == 0.5).all()


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 5, 3), np.nan),
        np.float32([[[1, 2, np.inf]]]),
        np.full((4, 5, 3), np.finfo(np.float32).max, dtype=np.float32),
        np.full((4, 5, 3), -0.5),
        np.full((4, 5, 3), 256.0),
        np.full((4, 5, 3), 256),
        np.full((4, 5, 3), -1, dtype=np.int16),
        np.full((4, 5, 3), 2**64 - 1, dtype=np.uint64),
        torch.full((3, 4, 5), 1000),
        np.full((4, 5, 3), 1j),
        torch.full((3, 4, 5), 1j),
        np.full((4, 5, 3), "7"),
        np.full((4, 5, 3), None),
        np.zeros((0, 5, 3)),
        np.zeros((6, 5, 2)),
        np.zeros((4, 4, 5, 3)),
        np.zeros(7),
        7,
    ],
)
def test_arrays_without_brightness_are_refused(array):
    with pytest.raises(UnreadableImageError, match=r"pass|Pass|replace|scale"):
        read_image(array)


@pytest.mark.parametrize("values", [np.float32([[0.5, np.nan]]), np.float32([[-1, 5]]), np.int32([[70_000, 0]])])
def test_grey_files_without_brightness_are_refused(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "heights.tif")
    for read in (read_image, CGRSegImageProcessor()):
        with pytest.raises(UnreadableImageError, match=r"heights\.tif cannot be read as an image: it holds values"):
            read(tmp_path / "heights.tif")


def test_files_that_cannot_be_read_are_named(image, tmp_path, postscript):
    image.save(tmp_path / "broken.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:60])
    (tmp_path / "empty.png").touch()
    (tmp_path / "two\nlines \x1b[31m.jpg").write_text("no image")
    os.mkfifo(tmp_path / "pipe.png")
    for file, words in (
        (tmp_path / "broken.png", r"broken\.png .*: it is damaged \(.*: replace it"),
        (tmp_path / "empty.png", r"empty\.png .*empty: convert it to PNG"),
        (tmp_path / "two\nlines \x1b[31m.jpg", r"two\\nlines \\x1b\[31m\.jpg .*: it is not a JPEG"),
        (tmp_path / "pipe.png", r"pipe\.png .*: it is a pipe"),  # which would never answer
        (tmp_path / "nowhere.png", r"nowhere\.png .*: no such file"),
        (tmp_path, "is a directory"),
        (postscript, "it is not a JPEG"),
        ("http://localhost/photo.jpg", "it is a URL: download it first"),
        (io.BytesIO(b"no image"), "The BytesIO cannot be read as an image: it is not a JPEG"),
    ):
        with pytest.raises(UnreadableImageError, match=words) as refused:
            read_image(file)
        assert str(refused.value).isprintable()
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "nowhere.png")


def test_images_that_break_while_they_are_decoded(tmp_path):
    whole = PHOTO.read_bytes()
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_image(Image.open(io.BytesIO(whole[: len(whole) // 2])))


def test_too_many_pixels(image, tmp_path, monkeypatch):
    image.save(tmp_path / "image.png")
    for source in (image, tmp_path / "image.png", np.asarray(image)):
        with pytest.raises(UnreadableImageError, match="it has 60 pixels, more than max_pixels=50") as refused:
            read_image(source, max_pixels=50)
        assert refused.value.has_too_many_pixels and refused.value.size == (6, 10)
    # Pillow's own guard counts by default, and is not changed for others.
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UnreadableImageError, match="max_pixels=10") as refused:
        read_image(tmp_path / "image.png")
    assert refused.value.has_too_many_pixels
    with pytest.raises(UnreadableImageError, match=r"Raise PIL\.Image\.MAX_IMAGE_PIXELS"):
        open_image(tmp_path / "image.png")
    assert read_image(tmp_path / "image.png", max_pixels=100).shape == (6, 10, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_folder_is_listed_whole(image, tmp_path):
    """A file of each ending is found, and each that Pillow can write is read."""
    Image.init()
    for format, suffixes in FORMATS.items():
        for suffix in suffixes:
            file = tmp_path / f"photo{suffix}"
            if format in Image.SAVE and (format != "AVIF" or features.check("avif")):
                written = image if suffix != ".pfm" else image.convert("F")
                written.convert("1" if suffix == ".pbm" else written.mode).save(file, format)
                assert read_image(file).shape == (6, 10, 3), suffix
            else:
                file.touch()
    found = list_images(tmp_path)
    assert {file.suffix for file in found} == set(IMAGE_SUFFIXES)
    (tmp_path / "PHOTO.JPG").touch()
    (tmp_path / "notes.txt").touch()
    assert len(list_images(tmp_path)) == len(found) + 1
