# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of every kind to pixels, and logits to label maps, with both image processors."""

import base64
import io
import logging
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, BatchFeature, pipeline
from transformers.modeling_outputs import SemanticSegmenterOutput

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegImageProcessorPil
from cgrseg_hf.model.image_processing_cgrseg import check_labels, label_map_to_tensor
from cgrseg_hf.model.modeling_cgrseg import CGRSegSemanticSegmenterOutput

PHOTOS = sorted((Path(__file__).parents[1] / "fixtures" / "photos" / "images").glob("*.jpg"))
AS_THEY_ARE = {"do_resize": False, "do_rescale": False, "do_normalize": False, "do_pad": False, "return_tensors": "pt"}


@pytest.fixture(params=[CGRSegImageProcessor, CGRSegImageProcessorPil])
def processor(request: pytest.FixtureRequest) -> CGRSegImageProcessor | CGRSegImageProcessorPil:
    return request.param()


def pixels(processor, image) -> np.ndarray:
    """What the processor sees, (height, width, channels)."""
    return processor(image, **AS_THEY_ARE).pixel_values[0].permute(1, 2, 0).numpy()


@pytest.fixture
def picture() -> Image.Image:
    """A small picture with a different colour in every corner."""
    array = np.zeros((6, 10, 3), dtype=np.uint8)
    array[:3, :5], array[:3, 5:], array[3:, :5], array[3:, 5:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (99, 180, 30)
    return Image.fromarray(array)


def test_both_agree_on_photos():
    photos = [Image.open(path) for path in PHOTOS[:4]]
    one = CGRSegImageProcessor()(photos, return_tensors="pt")
    other = CGRSegImageProcessorPil()(photos, return_tensors="pt")
    assert one.pixel_values.dtype == torch.float32
    torch.testing.assert_close(dict(one), dict(other), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (427, 640, (512, 767)),
        (640, 480, (683, 512)),
        (512, 512, (512, 512)),
        (100, 1000, (205, 2048)),
        (30_000, 1, (2048, 1)),
        (1, 1, (512, 512)),
    ],
)
def test_fits_within_both_edges(processor, height: int, width: int, expected: tuple[int, int]):
    batch = processor(np.zeros((height, width, 3), dtype=np.uint8), input_data_format="channels_last")
    assert tuple(batch.image_sizes[0]) == expected
    assert batch.pixel_values[0].shape == (3, *(-(-length // 32) * 32 for length in expected))


def test_other_sizes(processor, picture):
    for size, expected in [
        ({"height": 40, "width": 50}, (40, 50)),
        ({"shortest_edge": 12}, (12, 20)),
        ({"longest_edge": 20}, (12, 20)),
        ({"max_height": 12, "max_width": 40}, (12, 20)),
        (12, (12, 20)),
    ]:
        assert tuple(processor(picture, size=size).image_sizes[0]) == expected
    with pytest.raises(ValueError, match=r"'max_pixels': 100\} is not understood: give 'height' and 'width'"):
        processor(picture, size={"min_pixels": 10, "max_pixels": 100})
    with pytest.raises(ValueError, match=r"resample=<.*LANCZOS: 1> is not supported: use \[0, 2, 3\]"):
        processor(picture, resample=Image.Resampling.LANCZOS)


def test_padding_is_zero_after_normalising(processor, picture):
    batch = processor(picture, do_resize=False, return_tensors="pt")
    assert batch.pixel_values.shape == (1, 3, 32, 32)
    assert batch.image_sizes.tolist() == [[6, 10]]
    red = (torch.tensor([1.0, 0.0, 0.0]) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(batch.pixel_values[0, :, 0, 0], red)
    assert not batch.pixel_values[..., 6:, :].any() and not batch.pixel_values[..., 10:].any()


def test_an_array_of_frames_is_a_batch(processor):
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)
    batch = processor(frames, do_resize=False, return_tensors="pt")
    assert batch.pixel_values.shape == (3, 3, 64, 64)


def test_mixed_sizes_share_one_padded_size(processor):
    images = [Image.new("RGB", size) for size in [(64, 40), (40, 70), (1, 1)]]
    batch = processor(images, do_resize=False, return_tensors="pt")
    assert batch.pixel_values.shape == (3, 3, 96, 64)
    assert batch.image_sizes.tolist() == [[40, 64], [70, 40], [1, 1]]


def test_a_list_may_mix_kinds(processor, picture, tmp_path):
    picture.save(tmp_path / "file.png")
    array = np.asarray(picture)
    images = [
        picture,
        tmp_path / "file.png",
        str(tmp_path / "file.png"),
        array,
        array.transpose(2, 0, 1),
        torch.tensor(array),
    ]
    batch = processor(images, **AS_THEY_ARE).pixel_values
    assert batch.shape == (6, 3, 6, 10)
    assert (batch == batch[0]).all()


def test_something_else_than_an_image_is_refused(processor):
    with pytest.raises(TypeError, match="Got a dict for an image"):
        processor({"image": 1})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        processor("nowhere.jpg")
    with pytest.raises(IsADirectoryError):
        processor(str(PHOTOS[0].parent))


def test_addresses_of_images(processor, picture, tmp_path):
    file = io.BytesIO()
    picture.save(file, format="PNG")
    address = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    np.testing.assert_array_equal(pixels(processor, address), picture)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (tmp_path / "photo.png").write_bytes(file.getvalue())
        address = f"http://127.0.0.1:{server.server_port}/photo.png"
        np.testing.assert_array_equal(pixels(processor, address), picture)
        server.shutdown()


def test_a_program_behind_a_url_is_not_run(processor, postscript):
    address = f"data:image/png;base64,{base64.b64encode(postscript.read_bytes()).decode()}"
    with pytest.raises(ValueError, match="cannot be read as an image"):
        processor(address)


def test_files_are_closed(processor, picture, tmp_path):
    """So that a list may name more of them than a process may hold open."""
    picture.save(tmp_path / "file.png")
    before = len(list(Path("/proc/self/fd").iterdir()))
    images = processor.fetch_images([tmp_path / "file.png"] * 20)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert len(images) == 20


def test_values_of_another_kind_than_brightness(processor):
    heights = np.int32([[[3000], [-5], [7]]])
    values = processor(heights, input_data_format="channels_last", **AS_THEY_ARE).pixel_values[0]
    assert values[:, 0].tolist() == [[3000, -5, 7]] * 3
    assert np.abs(processor(heights, rescale_factor=1e-4).pixel_values[0]).max() < 5


def test_channels_that_are_declared_wrongly(processor):
    with pytest.raises(ValueError, match=r"has 40 channels, .*check input_data_format"):
        processor(np.zeros((40, 50, 3), dtype=np.uint8), input_data_format="channels_first")


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_arrays_with_transparency(processor, dtype):
    array = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 200, 51]]], dtype=dtype)
    expected = [[[10, 20, 30], [255, 255, 255], [204, 224, 244]]]
    settings = {**AS_THEY_ARE, "do_rescale": True, "rescale_factor": 1.0}
    for image in (array, torch.from_numpy(array)):
        values = processor(image, input_data_format="channels_last", **settings).pixel_values[0]
        np.testing.assert_allclose(values.permute(1, 2, 0), expected, atol=1e-3)


def test_labels_of_every_type(processor, tmp_path):
    label_map = np.array([[0, 1, 300]])
    Image.fromarray(label_map.astype(np.uint16)).save(tmp_path / "deep.png")
    types = ("<u2", ">u2", ">i4", np.uint32, np.uint64)
    for maps in (tmp_path / "deep.png", *(label_map.astype(dtype) for dtype in types)):
        batch = processor(Image.new("RGB", (3, 1)), maps, do_resize=False, do_pad=False, return_tensors="pt")
        assert batch.labels[0].tolist() == label_map.tolist()


def test_label_maps_are_turned_as_their_exif_says(processor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(np.uint8([[0, 1, 2]])).save(tmp_path / "map.png", exif=exif)
    batch = processor(Image.new("RGB", (3, 1)), tmp_path / "map.png", do_resize=False, do_pad=False)
    assert np.asarray(batch.labels[0]).tolist() == [[2, 1, 0]]


def test_labels_follow_their_pictures(processor):
    label_map = np.zeros((40, 60), dtype=np.uint8)
    label_map[:, 30:] = 7
    batch = processor(Image.new("RGB", (60, 40)), label_map, size={"height": 80, "width": 120}, return_tensors="pt")
    labels = batch.labels[0]
    assert labels.dtype == torch.int64 and labels.shape == (96, 128)
    assert (labels[:80, :60] == 0).all() and (labels[:80, 60:120] == 7).all()
    assert (labels[80:] == 255).all() and (labels[:, 120:] == 255).all()


def test_labels_are_reduced_once_and_on_a_copy(processor):
    label_map = np.array([[0, 1, 150], [255, 2, 0]], dtype=np.uint8)
    before = label_map.copy()
    for maps in (label_map, Image.fromarray(label_map)):
        batch = processor(
            Image.new("RGB", (3, 2)), maps, do_reduce_labels=True, do_resize=False, do_pad=False, return_tensors="pt"
        )
        assert batch.labels[0].tolist() == [[255, 0, 149], [255, 1, 255]]
    np.testing.assert_array_equal(label_map, before)


def test_wide_label_ids_survive(processor):
    label_map = np.array([[0, 459], [300, 70_000]], dtype=np.int32)
    batch = processor(Image.new("RGB", (2, 2)), label_map, do_resize=False, do_pad=False, return_tensors="pt")
    assert batch.labels[0].tolist() == label_map.tolist()
    reduced = processor(Image.new("RGB", (2, 2)), label_map, do_resize=False, do_reduce_labels=True)
    assert np.asarray(reduced.labels[0])[:2, :2].tolist() == [[255, 458], [299, 69_999]]


def test_palette_maps_count_by_index(processor):
    label_map = Image.new("P", (2, 2))
    label_map.putdata([0, 1, 2, 1])
    label_map.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    batch = processor(Image.new("RGB", (2, 2)), label_map, do_resize=False, do_pad=False, return_tensors="pt")
    assert batch.labels[0].tolist() == [[0, 1], [2, 1]]


@pytest.mark.parametrize(
    ("label_map", "settings", "words"),
    [
        (np.full((2, 3), 9, dtype=np.uint8), {"num_labels": 5}, r"\[9\].*num_labels=5"),
        (np.zeros((3, 2), dtype=np.uint8), {}, r"\(2, 3\).*\(3, 2\)"),
        (Image.new("RGB", (3, 2)), {}, "'RGB'.*colours"),
        (np.zeros((2, 3, 3), dtype=np.uint8), {}, r"\(2, 3, 3\).*colours"),
        ([np.zeros((2, 3), dtype=np.uint8)] * 2, {}, "1 images but 2 segmentation maps"),
        (np.full((2, 3), 1.5), {}, r"\[1\.5\].*whole numbers"),
        (np.full((2, 3), np.nan), {}, r"\[nan.*whole numbers"),
        (np.full((2, 3), -3), {}, r"\[-3\]"),
        (np.full((2, 3), 256), {"do_reduce_labels": True}, "ignored label 255"),
        (np.zeros((2, 3), dtype=np.uint8), {"num_labels": 300}, "ignore_index=255.*num_labels=300"),
        (np.zeros((2, 3)), {"do_reduce_labels": True, "ignore_index": 0}, "ignored label 0"),
    ],
)
def test_wrong_labels_are_named(processor, label_map, settings: dict, words: str):
    with pytest.raises(ValueError, match=words):
        processor(Image.new("RGB", (3, 2)), label_map, **settings)


@pytest.mark.parametrize("processor_class", [CGRSegImageProcessor, CGRSegImageProcessorPil])
def test_a_misspelt_setting_is_noticed(processor_class, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("cgrseg_hf"), "propagate", True)
    processor_class(do_reduce_label=True)
    assert "did you mean do_reduce_labels" in caplog.text
    caplog.clear()
    processor_class.from_dict(processor_class().to_dict())
    assert not caplog.records


def test_label_maps_of_every_shape(processor):
    label_map = np.arange(6).reshape(2, 3)
    photo = Image.new("RGB", (3, 2))
    for maps in (
        label_map,
        label_map[..., None],
        label_map[None],
        [label_map],
        torch.tensor(label_map),
        label_map * 1.0,
    ):
        batch = processor(photo, maps, do_resize=False, do_pad=False, return_tensors="pt")
        assert batch.labels.tolist() == [label_map.tolist()]
    batch = processor([photo] * 2, np.stack([label_map] * 2), do_resize=False, do_pad=False, return_tensors="pt")
    assert batch.labels.shape == (2, 2, 3)


def test_reduced_labels_fit_their_number(processor):
    label_map = np.array([[0, 1, 5]], dtype=np.uint8)
    processor(Image.new("RGB", (3, 1)), label_map, do_reduce_labels=True, num_labels=5)


def test_label_map_is_one_bilinear_step(processor):
    logits = torch.randn(2, 4, 12, 16)
    outputs = SemanticSegmenterOutput(logits=logits)
    maps = processor.post_process_semantic_segmentation(outputs, target_sizes=[(50, 70), (33, 20)])
    for index, size in enumerate([(50, 70), (33, 20)]):
        expected = torch.nn.functional.interpolate(logits[index][None], size=size, mode="bilinear")[0].argmax(0)
        assert maps[index].dtype == torch.int64
        assert torch.equal(maps[index], expected)


def test_padding_never_shows(processor):
    # Class 0 fills the picture, class 1 the padding to its right and below.
    logits = torch.zeros(1, 2, 8, 12)
    logits[:, 1] = 1
    logits[:, 0, :5, :7] = 2
    outputs = CGRSegSemanticSegmenterOutput(logits=logits, image_sizes=torch.tensor([[33, 51]]))
    for target_size in [(33, 51), (330, 510), (10, 10), (1, 1)]:
        label_map = processor.post_process_semantic_segmentation(outputs, target_sizes=[target_size])[0]
        assert label_map.shape == target_size and not label_map.any()
    assert processor.post_process_semantic_segmentation(outputs)[0].shape == (5, 7)


def test_padding_does_not_shift_the_picture(processor):
    # An edge at column 25 of 50, once in an input of 50 columns padded to 64 and once in the exact number.
    columns = torch.arange(8) * 8 + 4.0
    ramp = (columns - 25)[None, None, None, :].expand(1, 1, 4, 8)
    outputs = CGRSegSemanticSegmenterOutput(logits=torch.cat([-ramp, ramp], 1), image_sizes=torch.tensor([[32, 50]]))
    label_map = processor.post_process_semantic_segmentation(outputs, target_sizes=[(64, 100)])[0]
    assert label_map[0].tolist() == [0] * 50 + [1] * 50


def test_scores_on_request(processor):
    outputs = SemanticSegmenterOutput(logits=torch.randn(1, 3, 4, 4))
    result = processor.post_process_semantic_segmentation(outputs, [(20, 10)], return_segmentation_scores=True)[0]
    assert isinstance(result, BatchFeature)
    assert result.segmentation_scores.shape == (3, 20, 10)
    assert torch.equal(result.segmentation_scores.argmax(0), result.segmentation)


def test_target_sizes_must_match_the_batch(processor):
    with pytest.raises(ValueError, match="1 images but 2 target_sizes"):
        processor.post_process_semantic_segmentation(
            SemanticSegmenterOutput(logits=torch.zeros(1, 2, 2, 2)), [(1, 1)] * 2
        )


def test_target_sizes_as_tensor(processor):
    outputs = SemanticSegmenterOutput(logits=torch.zeros(1, 2, 2, 2))
    assert processor.post_process_semantic_segmentation(outputs, torch.tensor([[5, 6]]))[0].shape == (5, 6)


def test_round_trip_through_a_folder(processor, tmp_path):
    type(processor)(size={"height": 64, "width": 96}, do_reduce_labels=True, num_labels=7).save_pretrained(tmp_path)
    backend = "pil" if isinstance(processor, CGRSegImageProcessorPil) else "torchvision"
    loaded = AutoImageProcessor.from_pretrained(tmp_path, backend=backend)
    assert type(loaded) is type(processor)
    assert dict(loaded.size) == {"height": 64, "width": 96}
    assert (loaded.do_reduce_labels, loaded.num_labels, loaded.antialias) == (True, 7, False)


def test_contract_of_the_example_scripts(processor):
    """What transformers' semantic segmentation examples read."""
    assert "shortest_edge" in processor.size and processor.size["shortest_edge"] == 512
    assert len(processor.image_mean) == len(processor.image_std) == 3
    assert processor.do_reduce_labels is False


def test_the_real_size_travels_through_the_pipeline(tiny_config, processor, tmp_path):
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config()).eval()
    processor.size = type(processor)(size={"shortest_edge": 60, "longest_edge": 240}).size
    segment = pipeline("image-segmentation", model=model, image_processor=processor)
    photo = Image.open(PHOTOS[0])
    segments = segment(photo)

    inputs = processor(photo, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    expected = processor.post_process_semantic_segmentation(outputs, [photo.size[::-1]])[0].numpy()
    assert outputs.image_sizes.tolist() == [[60, 90]]
    assert {segment["label"] for segment in segments} == {model.config.id2label[index] for index in np.unique(expected)}
    for segment in segments:
        mask = np.asarray(segment["mask"]) > 0
        np.testing.assert_array_equal(mask, expected == model.config.label2id[segment["label"]])


def test_the_pipeline_takes_batches_of_photos(tiny_config, tmp_path):
    model = CGRSegForSemanticSegmentation(tiny_config()).eval()
    processor = CGRSegImageProcessor(size={"height": 64, "width": 64})
    segment = pipeline("image-segmentation", model=model, image_processor=processor)
    photos = [Image.open(path) for path in PHOTOS[:3]]
    results = segment(photos, batch_size=3)
    assert [result[0]["mask"].size for result in results] == [photo.size for photo in photos]


def test_padding_to_a_given_size(processor):
    picture = Image.new("RGB", (40, 30))
    for height, width in ((30, 40), (50, 64)):
        pad_size = {"height": height, "width": width}
        prepared = processor(picture, np.ones((30, 40), np.uint8), do_resize=False, pad_size=pad_size)
        assert prepared.pixel_values[0].shape == (3, height, width)
        assert (np.asarray(prepared.labels[0]) == 1).sum() == 30 * 40 and prepared.labels[0].shape == (height, width)
    for height, width in ((29, 64), (64, 39)):
        with pytest.raises(ValueError, match=rf"pad_size=\({height}, {width}\) is smaller than an image of \(30, 40\)"):
            processor(picture, do_resize=False, pad_size={"height": height, "width": width})


def test_label_maps_in_pictures_of_any_depth():
    for mode, dtype in (("I", np.int32), ("I;16", "<u2"), ("I;16B", ">u2"), ("L", np.uint8)):
        label_map = Image.fromarray(np.array([[0, 200]], dtype=dtype))
        assert label_map.mode == mode and label_map_to_tensor(label_map, 0, 255).tolist() == [[0, 200]]


def test_label_maps_are_copied_and_the_number_of_classes_is_none():
    label_map = torch.tensor([[0, 4]])
    label_map_to_tensor(label_map, 0, 255).zero_()
    assert label_map.tolist() == [[0, 4]]
    check_labels(label_map, 0, 5, 255)
    with pytest.raises(ValueError, match=r"holds the labels \[4\], but there are num_labels=4"):
        check_labels(label_map, 0, 4, 255)
