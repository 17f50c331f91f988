# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Windows over pictures of any size: geometry, blending, and files that are read and written in bands."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf.inference import UnreadableImageError
from cgrseg_hf.inference.image_rows import ArrayRows, open_rows, read_reduced
from cgrseg_hf.inference.label_map_files import open_label_map, write_strips
from cgrseg_hf.inference.resampling import resample_region
from cgrseg_hf.inference.tiling import (
    TileGrid,
    TileSettings,
    blend_into_strips,
    compute_blending_weights,
    place_windows,
)
from cgrseg_hf.model.image_reading_cgrseg import read_image

SIZES = [
    ((500, 333), TileSettings(128, 32)),
    ((500, 333), TileSettings(128, 64)),
    ((90, 700), TileSettings(96, 0)),
    ((1, 5), TileSettings(64)),
    ((300, 200), TileSettings(128, 32, 0.37)),
    ((700, 200), TileSettings(128, 32, 0.5)),
    ((110, 105), TileSettings(64, 32, 1.7)),
    ((200, 130), TileSettings(64, 32, 0.97)),
]


@pytest.mark.parametrize(
    ("length", "window", "overlap"), [(640, 128, 32), (160, 128, 64), (128, 128, 32), (992, 96, 0)]
)
def test_windows_cover_and_overlap(length, window, overlap):
    starts = place_windows(length, window, overlap, 32)
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert all(start % 32 == 0 for start in starts)
    assert all(one + window - other >= overlap for one, other in itertools.pairwise(starts))


def test_weights_sum_to_one_and_rise_from_the_border():
    starts = [0, 8, 20]
    weights = compute_blending_weights(starts, 16, 8, 33)
    total = torch.zeros(33)
    for start, part in zip(starts, weights):
        total[start : start + len(part)] += part
    torch.testing.assert_close(total, torch.ones(33))
    assert (weights[0][:8] == 1).all()  # one window alone counts in full, to the last bit
    shared = weights[1][:8]
    assert (shared.diff() > 0).all() and shared[0] < 0.1


@pytest.mark.parametrize(("size", "settings"), SIZES)
def test_windows_of_one_field_of_logits_give_its_label_map(size, settings):
    """Where all windows agree, nothing shows that there were any, to the last pixel and at every scale."""
    grid = TileGrid(size, settings)
    height, width = grid.logits_size
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(7, height + 16, width + 16, generator=generator)
    rows, columns = (length // 8 for length in grid.window_size)
    logits = (
        (row, column, field[:, top // 8 : top // 8 + rows, left // 8 : left // 8 + columns])
        for row, top in enumerate(grid.starts[0])
        for column, left in enumerate(grid.starts[1])
    )
    strips = list(blend_into_strips(logits, grid))
    assert len(strips) >= min(len(grid.starts[0]), 2) - 1
    label_map = np.concatenate(strips)
    assert label_map.dtype == np.uint8

    scale = 8 / float(grid.scale)
    scores = torch.ops.aten.upsample_bilinear2d(field[None, :, :height, :width], list(size), False, scale, scale)[0]
    best = scores.topk(2, dim=0)
    different = torch.from_numpy(label_map != best.indices[0].numpy())
    assert label_map.shape == size
    assert ((best.values[0] - best.values[1])[different] < 1e-4).all()
    assert different.float().mean() < 1e-3


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("scale", [0.5, 0.37, 1.3, 2.0])
def test_parts_are_resized_as_the_whole(scale, antialias):
    picture = np.random.default_rng(0).integers(0, 256, (93, 71, 3)).astype(np.float32)
    size = [int(np.ceil(length * scale)) for length in picture.shape[:2]]
    upsample = torch.ops.aten._upsample_bilinear2d_aa if antialias else torch.ops.aten.upsample_bilinear2d
    whole = upsample(torch.from_numpy(picture).permute(2, 0, 1)[None], size, False, scale, scale)[0].permute(1, 2, 0)
    region = (slice(3, size[0] - 2), slice(5, size[1]))
    part = resample_region(picture, (0, 0), region, scale, picture.shape[:2], antialias)
    torch.testing.assert_close(part, whole[region], atol=5e-3, rtol=0)


@pytest.mark.parametrize(("width", "height"), [(120, 90), (128, 96), (33, 200), (5, 3)])
def test_one_window_is_the_whole_picture_bit_for_bit(make_segmenter, make_photo, width, height):
    photo = make_photo(width, height)
    tiled = make_segmenter()(photo, tile=256).label_map
    np.testing.assert_array_equal(tiled, make_segmenter(do_resize=False)(photo).label_map)


@pytest.mark.parametrize("arguments", [{}, {"overlap": 64}, {"scale": 0.5}, {"scale": 1.3}])
def test_every_pixel_has_a_class(segmenter, make_photo, arguments):
    photo = make_photo(320, 200)
    segmentation = segmenter(photo, tile=128, **arguments)
    assert segmentation.label_map.dtype == np.uint8
    assert segmentation.size == (200, 320)
    assert segmentation.pixel_counts.sum() == 200 * 320
    np.testing.assert_array_equal(np.bincount(segmentation.label_map.ravel(), minlength=5), segmentation.pixel_counts)
    many = iter([photo, "no/such/file.jpg"])
    (in_batches,) = segmenter(many, tile=128, on_error="skip", batch_size=4, **arguments)
    np.testing.assert_array_equal(in_batches.label_map, segmentation.label_map)


def test_memory_mapped_in_and_out(segmenter, make_photo, tmp_path):
    photo = make_photo(300, 200)
    np.save(tmp_path / "photo.npy", np.asarray(photo))
    expected = segmenter(photo, tile=128)
    mapped = np.load(tmp_path / "photo.npy", mmap_mode="r")
    for source in (tmp_path / "photo.npy", mapped):
        segmentation = segmenter(source, tile=128, output=tmp_path / "classes.npy")
        assert isinstance(segmentation.label_map, np.memmap)
        np.testing.assert_array_equal(segmentation.label_map, expected.label_map)
        np.testing.assert_array_equal(segmentation.pixel_counts, expected.pixel_counts)
    small = segmentation.overlay(max_side=100)
    assert small.height >= 67 and small.width > 100


def write_tiff(path, array: np.ndarray, **settings) -> None:
    """Write an array (height, width, channels) by rasterio."""
    rasterio = pytest.importorskip("rasterio")
    height, width, channels = array.shape
    shape = {"height": height, "width": width, "count": channels, "dtype": array.dtype.name}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **settings) as file:
            file.write(np.moveaxis(array, -1, 0))


@pytest.mark.parametrize("layout", ["tiles", "strips", "plain", "planes", "grey", "16 bits", "floats", "1 bit", "jpeg"])
def test_tiff_in_and_out(segmenter, make_photo, tmp_path, layout):
    array = np.asarray(make_photo(300, 200))
    settings = {
        "tiles": {"tiled": True, "blockxsize": 80, "blockysize": 64, "compress": "deflate", "photometric": "rgb"},
        "strips": {"blockysize": 7, "compress": "lzw", "photometric": "rgb", "predictor": 2},
        "plain": {"photometric": "rgb"},
        "planes": {"photometric": "rgb", "interleave": "band"},
        "grey": {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "zstd"},
        "16 bits": {"photometric": "rgb", "blockysize": 50},
        "floats": {"photometric": "rgb", "tiled": True},
        "1 bit": {"nbits": 1},
        "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel"},
    }[layout]
    array = array[..., :1] if layout in ("grey", "1 bit") else array
    stored = {
        "16 bits": lambda: array.astype(np.uint16) * np.uint16(257),
        "floats": lambda: array / np.float32(255),
        "1 bit": lambda: array // 128,
    }.get(layout, lambda: array)()
    write_tiff(tmp_path / "photo.tif", stored, **settings)
    if layout in ("1 bit", "jpeg"):  # Pillow decodes JPEG a little differently
        whole = open_rows if layout == "jpeg" else lambda path: ArrayRows(read_image(path), "photo.tif")
        array = whole(tmp_path / "photo.tif").read(0, 200)
    expected = segmenter(array, tile=128).label_map
    segmentation = segmenter(tmp_path / "photo.tif", tile=128, output=tmp_path / "classes.tif")
    assert segmentation.size == (200, 300)
    np.testing.assert_array_equal(segmentation.label_map, expected)
    with Image.open(tmp_path / "classes.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    rows = open_rows(tmp_path / "photo.tif")
    shown = np.broadcast_to(array, (*rows.size, 3))
    np.testing.assert_allclose(read_reduced(rows, 3), shown[::3, ::3], atol=1e-4)
    small = segmentation.overlay(max_side=100, opacity=0.0, legend=False)
    assert (np.asarray(small) == shown[::3, ::3]).all(-1).mean() > 0.5


@pytest.mark.parametrize("tile", [None, 64])
def test_label_maps_of_geotiffs_keep_their_place(make_segmenter, make_photo, tmp_path, tile):
    rasterio = pytest.importorskip("rasterio")
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 399_960, 0, -10, 5_700_000)}
    array = np.asarray(make_photo(150, 100))
    for nodata, expected in ((255, 255), (0, None)):  # 0 is a class
        write_tiff(tmp_path / "satellite.tif", array, photometric="rgb", nodata=nodata, **place)
        target, segmenter = tmp_path / f"classes_{nodata}.tif", make_segmenter()
        if tile is None:
            segmenter(tmp_path / "satellite.tif").save(target)
        else:
            segmenter(tmp_path / "satellite.tif", tile=tile, output=target)
        with rasterio.open(target) as file:
            assert (file.crs, file.transform, file.nodata) == (place["crs"], place["transform"], expected)
            np.testing.assert_array_equal(file.read(1), segmenter(array, tile=tile).label_map)


def test_strips_of_any_height_make_a_tiff(tmp_path):
    label_map = np.random.default_rng(0).integers(0, 5, (1100, 70), dtype=np.uint8)
    pytest.importorskip("rasterio")
    strips = np.split(label_map, [30, 700, 720])
    write_strips(tmp_path / "map.tif", strips, label_map.shape, np.uint8, [(9 * index, 0, 0) for index in range(5)])
    np.testing.assert_array_equal(open_label_map(tmp_path / "map.tif"), label_map)
    with Image.open(tmp_path / "map.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), label_map)
        assert image.getpalette()[3 * 4] == 36


def test_bands_of_every_file_are_the_picture(make_photo, tmp_path):
    photo = make_photo(70, 50)
    photo.save(tmp_path / "photo.png")
    np.save(tmp_path / "photo.npy", np.moveaxis(np.asarray(photo), 2, 0))
    for source in (tmp_path / "photo.png", tmp_path / "photo.npy", photo, torch.from_numpy(np.array(photo))):
        rows = open_rows(source)
        assert rows.size == (50, 70)
        np.testing.assert_array_equal(rows.read(10, 31), np.asarray(photo)[10:31])
        np.testing.assert_array_equal(read_reduced(rows, 3), np.asarray(photo)[::3, ::3])


def test_files_that_cannot_be_read_in_bands(segmenter, make_photo, tmp_path):
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "text.npy").write_text("no image")
    photo = make_photo(70, 80)
    photo.convert("YCbCr").save(tmp_path / "ycbcr.tif")  # whose values are no red, green and blue
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.tif", exif=exif)
    write_tiff(tmp_path / "two.tif", np.zeros((80, 70, 2), np.uint8))
    write_tiff(tmp_path / "signed.tif", np.zeros((80, 70, 3), np.int16), photometric="rgb")
    np.save(tmp_path / "frames.npy", np.zeros((4, 80, 70, 3), np.uint8))
    tile = {"tiled": True, "blockxsize": 17_008, "blockysize": 17_008, "compress": "deflate", "sparse_ok": True}
    write_tiff(tmp_path / "tile.tif", np.zeros((20, 20, 1), np.uint8), **tile)
    photo.resize((200, 150)).save(tmp_path / "broken.tif", compression="tiff_adobe_deflate")
    data = bytearray((tmp_path / "broken.tif").read_bytes())
    data[20 : len(data) // 2] = bytes(len(data) // 2 - 20)
    (tmp_path / "broken.tif").write_bytes(data)
    for name, reason in (
        ("text.tif", "damaged"),
        ("ycbcr.tif", "photometric interpretation 6.*convert it to RGB"),
        ("turned.tif", "upright"),
        ("two.tif", "2 samples a pixel, and the model takes 3"),
        ("signed.tif", "type int16"),
        ("text.npy", "not a NumPy file of plain numbers"),
        ("frames.npy", "not an image"),
        ("tile.tif", "parts of 276 MiB, too large .*write it anew in tiles"),
        ("broken.tif", "damaged"),
    ):
        with pytest.raises(UnreadableImageError, match=rf"{name} cannot be read as an image: .*{reason}"):
            segmenter(tmp_path / name, tile=128)


def test_nothing_half_written_stays(segmenter, make_photo, tmp_path):
    def engine(pixel_values):
        raise RuntimeError("no memory")

    engine.config, engine.device, engine.name = segmenter.engine.config, segmenter.engine.device, "openvino"
    failing = type(segmenter)(engine, segmenter.image_processor)
    with pytest.raises(RuntimeError, match="no memory"):
        failing(make_photo(), tile=64, output=tmp_path / "classes.npy")
    assert not list(tmp_path.iterdir())


def test_limit_of_pixels_counts_for_windows_only_if_given(make_segmenter, make_photo, tmp_path, monkeypatch):
    make_photo(120, 90).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    assert make_segmenter()(tmp_path / "photo.png", tile=64).size == (90, 120)
    with pytest.raises(UnreadableImageError, match="max_pixels=5,000"):
        make_segmenter(max_pixels=5_000)(tmp_path / "photo.png", tile=64)
    np.save(tmp_path / "photo.npy", np.zeros((90, 120, 3), np.uint8))
    with pytest.raises(UnreadableImageError, match="10,800 pixels, more than max_pixels=5,000"):
        make_segmenter(max_pixels=5_000)(tmp_path / "photo.npy", tile=64)
