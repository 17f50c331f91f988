# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The Segmenter: every kind of input, order, batches, errors."""

import io
import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

from cgrseg_hf import CGRSegImageProcessor
from cgrseg_hf.engines.torch_engine import TorchEngine
from cgrseg_hf.inference import Segmenter, UnreadableImageError
from cgrseg_hf.inference.pipeline import map_ahead
from cgrseg_hf.inference.segmentation import Segmentation

ORIENTATION = 0x0112


def by_hand(segmenter, image: Image.Image) -> np.ndarray:
    """The label map through the image processor alone."""
    processor = segmenter.image_processor
    inputs = processor(image, return_tensors="pt")
    logits = segmenter.engine(inputs["pixel_values"])
    outputs = type("Outputs", (), {"logits": logits, "image_sizes": inputs["image_sizes"]})
    size = (image.height, image.width)
    return processor.post_process_semantic_segmentation(outputs, [size])[0].numpy()


def test_answer_of_the_image_processor(segmenter, make_photo):
    photo = make_photo(121, 87)
    segmentation = segmenter(photo)
    assert isinstance(segmentation, Segmentation)
    assert segmentation.label_map.dtype == np.uint8
    assert segmentation.label_map.shape == segmentation.size == (87, 121)
    assert len(segmentation.class_ids) > 1
    np.testing.assert_array_equal(segmentation.label_map, by_hand(segmenter, photo))


def test_every_kind_of_one_photo(segmenter, make_photo, tmp_path):
    photo = make_photo()
    photo.save(tmp_path / "photo.png")
    array = np.asarray(photo)
    expected = segmenter(photo).label_map
    opened = io.BytesIO((tmp_path / "photo.png").read_bytes())
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    for one in (tmp_path / "photo.png", str(tmp_path / "photo.png"), opened, array, tensor, np.moveaxis(array, 2, 0)):
        np.testing.assert_array_equal(segmenter(one).label_map, expected)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn by 90 degrees clockwise to see it
    photo.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(segmenter(tmp_path / "turned.png").label_map, expected)


def test_many_photos(segmenter, make_photo, tmp_path, capsys):
    photos = [make_photo(seed=seed) for seed in range(3)]
    expected = [segmenter(photo).label_map for photo in photos]
    assert not np.array_equal(expected[0], expected[1])
    for index, photo in enumerate(photos):
        folder = tmp_path / ("a" if index < 2 else "b")
        folder.mkdir(exist_ok=True)
        photo.save(folder / f"{index}.png")
    frames = np.stack([np.asarray(photo) for photo in photos])

    for many in (photos, tuple(photos), frames):
        segmentations = segmenter(many)
        assert isinstance(segmentations, list)
        for segmentation, label_map in zip(segmentations, expected, strict=True):
            np.testing.assert_array_equal(segmentation.label_map, label_map)
    for many in (tmp_path, str(tmp_path), (frame for frame in frames)):
        segmentations = segmenter(many)
        assert not isinstance(segmentations, list)
        for segmentation, label_map in zip(segmentations, expected, strict=True):
            np.testing.assert_array_equal(segmentation.label_map, label_map)
    assert [segmentation.source.name for segmentation in segmenter(tmp_path)] == ["0.png", "1.png", "2.png"]
    assert segmenter([]) == list(segmenter(iter([]))) == []
    for many, shown in ((photos, "3/3"), (iter(photos), "3photo")):
        assert len(list(segmenter(many, progress=True))) == 3
        assert shown in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_batches_of_mixed_sizes_are_single_results_in_order(segmenter, make_photo, batch_size):
    sizes = [(120, 90), (90, 120), (200, 90), (120, 90), (120, 91), (300, 90), (90, 120), (120, 90), (118, 90)]
    sizes += [(width, 90) for width in (150, 180, 210, 240, 270, 150)]  # batches that fill late
    photos = [make_photo(*size, seed=index) for index, size in enumerate(sizes)]
    batches = []

    def engine(pixel_values):
        batches.append(len(pixel_values))
        return segmenter.engine(pixel_values)

    engine.config, engine.device, engine.name = segmenter.engine.config, segmenter.engine.device, "openvino"
    watched = type(segmenter)(engine, segmenter.image_processor)
    segmentations = watched(photos, batch_size=batch_size)
    assert max(batches) == batch_size
    assert sum(batches) == len(photos)
    for segmentation, photo in zip(segmentations, photos, strict=True):
        assert segmentation.source is photo
        np.testing.assert_array_equal(segmentation.label_map, segmenter(photo).label_map)


def test_iterators_are_read_a_few_photos_ahead(segmenter, make_photo):
    taken = []

    def frames():
        for index in range(100):
            taken.append(index)
            yield make_photo(seed=index)

    segmentations = segmenter(frames())
    assert not taken
    next(segmentations)
    next(segmentations)
    segmentations.close()
    assert len(taken) < 10


def test_settings_of_the_image_processor_count(make_segmenter, make_photo):
    photo = make_photo(150, 100)
    for settings in (
        {"size": {"height": 64, "width": 96}},
        {"do_resize": False},
        {"do_pad": False, "size": {"shortest_edge": 70}},
        {"antialias": True, "size": {"shortest_edge": 64}, "resample": Image.Resampling.BICUBIC},
        {"do_normalize": False},
        {"size_divisor": 64},
    ):
        segmenter = make_segmenter(**settings)
        np.testing.assert_array_equal(segmenter(photo).label_map, by_hand(segmenter, photo), err_msg=str(settings))


def test_scores_and_entropy(segmenter, make_photo):
    photo = make_photo(100, 70)
    segmentation = segmenter(photo, return_scores=True, return_entropy=True)
    assert segmentation.scores.shape == (5, 70, 100)
    np.testing.assert_array_equal(segmentation.scores.argmax(axis=0), segmentation.label_map)
    np.testing.assert_array_equal(segmentation.label_map, segmenter(photo).label_map)
    probabilities = torch.from_numpy(segmentation.scores).double().softmax(dim=0)
    entropy = -(probabilities * probabilities.log().clamp(min=-1e9)).sum(dim=0)
    np.testing.assert_allclose(segmentation.entropy, entropy, atol=2e-3)
    assert segmenter(photo).scores is None


@pytest.mark.parametrize("size", [(100, 70), (61, 203)])
def test_probabilities_from_kept_logits(segmenter, make_photo, size):
    photo = make_photo(*size)
    segmentation = segmenter(photo, return_scores=True, return_logits=True)
    expected = torch.from_numpy(segmentation.scores).double().softmax(dim=0).numpy()
    height, width = segmentation.size
    for row, column in ((0, 0), (height - 1, width - 1), (height // 3, width // 2)):
        probabilities = segmentation.probabilities_at(row, column)
        np.testing.assert_allclose(probabilities, expected[:, row, column], atol=1e-4)
        assert probabilities.argmax() == segmentation.label_map[row, column]
    assert np.ptp(expected[3]) > 0.1
    np.testing.assert_allclose(segmentation.probability_map(3), expected[3], atol=1e-4)
    assert segmentation.probability_map(3, (20, 30)).shape == (20, 30)
    np.testing.assert_array_equal(segmentation.probability_map("LABEL_3"), segmentation.probability_map(3))
    assert segmentation.heat_map("LABEL_3").width > segmentation.heat_map(3, max_side=20).width > 20
    with pytest.raises(ValueError, match=f"columns from 0 to {width - 1}"):
        segmentation.probabilities_at(0, width)
    with pytest.raises(ValueError, match="No class is named 5"):
        segmentation.probability_map(5)
    with pytest.raises(ValueError, match="return_logits=True"):
        segmenter(photo).probabilities_at(0, 0)


def test_more_than_256_classes(make_segmenter, make_photo):
    segmentation = make_segmenter(num_labels=300)(make_photo())
    assert segmentation.label_map.dtype == np.uint16
    assert segmentation.label_map.max() < 300


def test_broken_files(segmenter, make_photo, tmp_path, caplog):
    make_photo(seed=1).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jpg").write_text("no picture")
    make_photo(seed=2).save(tmp_path / "d.jpg")
    (tmp_path / "e.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    make_photo(seed=3).save(tmp_path / "folder.jpg" / "f.jpg")
    for name, reason in (("b.jpg", "truncated"), ("c.jpg", "it is not a JPEG"), ("e.jpg", "no such file")):
        with pytest.raises(UnreadableImageError, match=rf"{name} cannot be read as an image: .*{reason}"):
            segmenter(tmp_path / name)
    segmentations = segmenter(tmp_path)
    assert next(segmentations).source.name == "a.jpg"  # what was read before an error comes first
    with pytest.raises(UnreadableImageError, match=r"b\.jpg"):
        next(segmentations)

    good = ["a.jpg", "d.jpg", "f.jpg"]
    assert [one.source.name for one in segmenter(tmp_path, on_error="skip", batch_size=2)] == good
    failures = []
    segmentations = segmenter(tmp_path, on_error=lambda source, error: failures.append((source.name, error)))
    assert [one.source.name for one in segmentations] == good
    assert [name for name, _ in failures] == ["b.jpg", "c.jpg", "e.jpg"]


@pytest.mark.parametrize("tile", [None, 64])
def test_pipes_are_not_waited_for(segmenter, tmp_path, tile):
    for name in ("photo.jpg", "photo.tif", "photo.npy"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UnreadableImageError, match=rf"{name} cannot be read as an image: it is a pipe"):
            segmenter(tmp_path / name, tile=tile)


@pytest.mark.parametrize("image_processor", [SegformerImageProcessor, CGRSegImageProcessor])
def test_another_model(image_processor):
    """Logits of stride 4 cover the photo, whichever image processor made the pixels, padded or not."""
    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1] * 4, hidden_sizes=[8] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8, num_labels=3
    )
    model = SegformerForSemanticSegmentation(config).eval()
    torch.nn.init.normal_(model.decode_head.classifier.weight, std=9.0)
    segmenter = Segmenter(TorchEngine(model, "cpu", torch.float32), image_processor(size={"height": 96, "width": 100}))
    photo = Image.fromarray(np.repeat(np.uint8([[30], [220]]), 50, axis=0).repeat(100, axis=1))
    inputs = SegformerImageProcessor(size={"height": 96, "width": 100})(photo.convert("RGB"), return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    expected = SegformerImageProcessor().post_process_semantic_segmentation(outputs, [(100, 100)])[0].numpy()
    assert len(np.unique(expected)) > 1
    segmentation = segmenter(photo.convert("RGB"), return_scores=True, return_entropy=True)
    assert segmentation.entropy.shape == segmentation.scores.shape[1:] == (100, 100)
    assert (segmentation.label_map == expected).mean() > 0.8  # the top left quarter alone would make it a half
    if image_processor is SegformerImageProcessor:
        np.testing.assert_array_equal(segmentation.label_map, expected)
        with pytest.raises(ValueError, match="leave out tile"):
            segmenter(photo, tile=64)


def test_errors_of_the_iterator_itself_are_raised(segmenter, make_photo):
    def frames():
        yield make_photo()
        raise RuntimeError("the camera is gone")

    segmentations = segmenter(frames(), on_error="skip")
    next(segmentations)
    with pytest.raises(RuntimeError, match="camera"):
        next(segmentations)


def test_too_many_pixels(make_segmenter, make_photo, tmp_path, monkeypatch):
    photo = make_photo(120, 90)
    photo.save(tmp_path / "photo.png")
    small = make_segmenter(max_pixels=10_000)
    for source in (photo, tmp_path / "photo.png", np.asarray(photo)):
        with pytest.raises(UnreadableImageError, match=r"10,800 pixels, more than max_pixels=10,000.*tile="):
            small(source)
    # Pillow's own guard stays on by default, and is not changed for others.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5_000)
    with pytest.raises(UnreadableImageError, match="max_pixels=5,000"):
        make_segmenter()(tmp_path / "photo.png")
    assert make_segmenter(max_pixels=20_000)(tmp_path / "photo.png").size == (90, 120)
    assert Image.MAX_IMAGE_PIXELS == 5_000


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [
        (7, {}, "Got a int"),
        ([7], {}, "Got a int for an image"),
        (np.zeros(5), {}, "array of shape"),
        (np.zeros((20, 30, 7), np.uint8), {}, "shape .20, 30, 7."),
        (np.zeros((0, 30, 3), np.uint8), {}, "has no pixels"),
        (np.zeros((20, 30, 3), complex), {}, "the type complex128"),
        (np.full((20, 30, 3), -0.5), {}, "before any normalization"),
        (np.full((20, 30, 3), np.nan), {}, "not finite"),
        (np.full((70, 70, 3), np.nan), {"tile": 64}, "not finite"),
        ("", {}, "empty path"),
        ("http://example.org/photo.jpg", {}, "download it first"),
        ([], {"batch_size": 0}, "batch_size=0"),
        ([], {"on_error": "ignore"}, "'raise', 'skip'"),
        ([], {"output": "map.npy"}, "pass tile="),
        ([], {"overlap": 32}, "pass tile="),
        ([], {"scale": 0.5}, "pass tile="),
        ([], {"tile": 5}, "tile=5"),
        ([], {"tile": 128, "overlap": 100}, "overlap=100"),
        ([], {"tile": 128, "scale": 0}, "scale=0"),
        ([], {"tile": 128, "output": "map.npy"}, "one photo"),
        ([], {"tile": 128, "return_scores": True}, "leave out tile="),
        (np.zeros((70, 70, 3), np.uint8), {"tile": 128, "output": "map.jpg"}, r"map\.jpg"),
        (np.zeros((0, 70, 3), np.uint8), {"tile": 128}, "has no pixels"),
        (Image.fromarray(np.full((70, 70), np.nan, np.float32)), {"tile": 128}, "it holds values that are not finite"),
    ],
)
def test_wrong_inputs_in_words(segmenter, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        segmenter(images, **arguments)


def test_the_photo_itself_is_never_overwritten(segmenter, make_photo, tmp_path):
    file = tmp_path / "photo.npy"
    np.save(file, np.asarray(make_photo()))
    with pytest.raises(ValueError, match="is the photo itself"):
        segmenter(tmp_path / "." / "photo.npy", tile=64, output=tmp_path / ".." / tmp_path.name / "photo.npy")
    assert np.array_equal(np.load(file), np.asarray(make_photo()))


@pytest.mark.parametrize("arguments", [{"num_threads": 0}, {"max_pixels": 0}, {"num_threads_reading": -1}])
def test_numbers_that_make_no_sense(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}=.*at least 1"):
        Segmenter.from_pretrained(**arguments)


def test_its_name_says_what_it_is(segmenter):
    assert repr(segmenter) == "Segmenter(5 classes, torch on cpu, float32)"


def test_map_ahead_keeps_order_and_works_ahead_in_threads():
    taken, threads = [], set()

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    def square(item):
        threads.add(threading.current_thread())
        return item * item

    results = map_ahead(square, items(), num_ahead=4, num_threads=3)
    assert next(results) == 0
    assert len(taken) <= 6
    assert list(results) == [item * item for item in range(1, 20)]
    assert threading.current_thread() not in threads
