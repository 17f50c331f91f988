# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever is passed for an image, a mask or an array: the right answer, or one clear error that says what to do."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegImageProcessorPil
from cgrseg_hf.data import SegmentationData, check_data
from cgrseg_hf.data.label_mapping import LabelMapping
from cgrseg_hf.engines.torch_engine import TorchEngine
from cgrseg_hf.evaluation import evaluate_model
from cgrseg_hf.inference import Segmenter

SIZE = {"shortest_edge": 64, "longest_edge": 256}
ID2LABEL = {index: f"class {index}" for index in range(corpus.NUM_CLASSES)}
PROCESSORS = (CGRSegImageProcessor(size=SIZE), CGRSegImageProcessorPil(size=SIZE))
REMEDY = re.compile(
    r"\b(check|convert|download|give|leave out|look up|map|pass|replace|resize|scale|set|take|turn|write)\b", re.I
)
_MOST_MEBIBYTES = 3000  # above what the model and the largest image need; a decoded bomb needs 3,600 more
_NUM_FUZZED = 800


@pytest.fixture(scope="module")
def segmenter(decided_model) -> Segmenter:
    return Segmenter(TorchEngine(decided_model, "cpu", torch.float32), PROCESSORS[0])


def lacks(message: str, path: Path) -> str | None:
    """Return what a message about a file lacks: one line that can be printed, the file's name, and a remedy."""
    name = path.name
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)
    if not message.isprintable():
        return f"not printable in one line: {message!r}"
    if shown not in message and repr(name)[1:-1] not in message:
        return f"does not name {shown}: {message}"
    return None if REMEDY.search(message) else f"without a remedy: {message}"


def answer(run: Callable[..., Any], *arguments: Any, **settings: Any) -> tuple[Any, str | None]:
    """Return an answer, or the words in which it was refused; other errors, and NumPy's warnings, are raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, on what is damaged
        warnings.simplefilter("error", RuntimeWarning)  # NumPy's, on values that are lost
        try:
            return run(*arguments, **settings), None
        except (ValueError, TypeError, OSError) as error:
            return None, str(error)


def check_file(segmenter: Segmenter, path: Path, tile: int | None = None) -> str:
    """Pass a file to the image processors and the Segmenter; return "right" or "refused"."""
    pixels = corpus.decode(path)
    for processor in PROCESSORS:
        values, words = answer(processor, str(path), return_tensors="pt")
        if pixels is None:
            assert values is None, path
            continue
        expected = processor(pixels, input_data_format="channels_last", return_tensors="pt").pixel_values
        assert words is None, (path, words)
        torch.testing.assert_close(values.pixel_values, expected, atol=0.02, rtol=0)  # floats are not rounded
    segmentation, words = answer(segmenter, path, tile=tile)
    if pixels is None:
        assert segmentation is None and lacks(words, path) is None, (path, words and lacks(words, path))
        return "refused"
    if tile is not None and words is not None:  # not every TIFF that can be decoded can be read in parts
        assert lacks(words, path) is None
        return "refused"
    assert words is None, (path, words)
    expected = segmenter(pixels, tile=tile).label_map
    assert np.mean(segmentation.label_map == expected) > 0.98, path
    return "right"


def make_pair(image: Path, annotation: Path) -> SegmentationData:
    files = {"image": {"path": str(image), "bytes": None}, "annotation": {"path": str(annotation), "bytes": None}}
    rows = [{**files, "name": image.name}]
    return SegmentationData(rows, ID2LABEL, None, LabelMapping.identity(corpus.NUM_CLASSES), "one pair")


def test_images_are_right(segmenter, photos, tmp_path):
    for name, content in corpus.whole_images(photos):
        path = tmp_path / name
        path.write_bytes(content)
        assert check_file(segmenter, path) == "right", name
        Image.fromarray(np.zeros(corpus.decode(path).shape[:2], np.uint8)).save(tmp_path / "mask.png")
        assert not check_data(make_pair(path, tmp_path / "mask.png"), show_progress=False).errors, name


def test_what_is_not_an_image_is_refused_in_words(segmenter, decided_model, photos, tmp_path):
    mask = tmp_path / "mask.png"
    Image.fromarray(np.zeros(corpus.PHOTO_SIZE[::-1], np.uint8)).save(mask)
    paths = []
    for name, content in corpus.unusable_images(photos):
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    for name, target in (("dangling.jpg", "nowhere.jpg"), ("loop.jpg", "loop.jpg"), ("device.jpg", "/dev/null")):
        paths.append(tmp_path / name)
        paths[-1].symlink_to(target)
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (*paths, tmp_path / "pipe.jpg"):
        assert check_file(segmenter, path) == "refused", path
        (error,) = check_data(make_pair(path, mask), show_progress=False).errors
        assert lacks(str(error), path) is None, lacks(str(error), path)
        _, words = answer(evaluate_model, decided_model, PROCESSORS[0], make_pair(path, mask), progress=False)
        assert lacks(words, path) is None, lacks(words, path)


def test_windows_are_right_or_refused_in_words(segmenter, photos, tmp_path):
    pytest.importorskip("rasterio")
    outcomes = Counter()
    for name, content in (*corpus.whole_images(photos), *corpus.unusable_images(photos)):
        if name.endswith((".tif", ".tiff")):
            (tmp_path / name).write_bytes(content)
            outcomes[check_file(segmenter, tmp_path / name, tile=64)] += 1
    assert outcomes["right"] > 5 and outcomes["refused"] > 10


def test_masks_are_right_or_refused_in_words(decided_model, photos, tmp_path):
    photo = tmp_path / "photo.jpg"
    corpus.load_photo(photos).save(photo)
    as_is = {"do_resize": False, "do_pad": False, "return_tensors": "pt", "num_labels": corpus.NUM_CLASSES}
    for name, content, ids in corpus.masks(photos):
        path = tmp_path / name
        path.write_bytes(content)
        data = make_pair(photo, path)
        errors = check_data(data, show_progress=False).errors
        result, words = answer(evaluate_model, decided_model, PROCESSORS[0], data, progress=False)
        if ids is None:
            assert errors and lacks(str(errors[0]), path) is None, (name, errors)
            assert lacks(words, path) is None, lacks(words, path)
        else:
            assert not errors, (name, errors)
            assert (
                result.confusion_matrix.sum(axis=1)
                == np.bincount(ids[ids != corpus.IGNORED], minlength=corpus.NUM_CLASSES)
            ).all()
        for processor in PROCESSORS:
            batch, _ = answer(processor, str(photo), str(path), **as_is)
            assert batch is None if ids is None else np.array_equal(batch.labels[0], ids), name


_DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.unicode_string_dtypes(),
)
_SHAPES = st.one_of(
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 2, 3, 4, 5))),
    st.tuples(st.sampled_from((1, 3, 4)), st.integers(1, 40), st.integers(1, 40)),
)
_BYTES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=12)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Make arrays of any type, shape and values; often of usual values, so that some are images."""
    dtype = draw(_DTYPES)
    elements = None
    if dtype.kind in "iu" and draw(st.booleans()):
        elements = st.integers(0, 127)
    elif dtype.kind == "f" and draw(st.booleans()):
        elements = st.floats(0, 1, width=min(dtype.itemsize, 8) * 8)
    array = draw(hnp.arrays(dtype, _SHAPES, elements=elements))
    if array.ndim and draw(st.booleans()):
        array = array[:: draw(st.sampled_from((-1, 2, -2)))]
    return np.asfortranarray(array) if draw(st.booleans()) else array


def _settings(max_examples: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=max_examples, deadline=None, derandomize=True, database=None, suppress_health_check=slow
    )


_counts = [20, pytest.param(_NUM_FUZZED, marks=pytest.mark.reliability)]


@pytest.mark.parametrize("max_examples", _counts)
def test_arrays_that_were_made_up(segmenter, max_examples):
    outcomes = Counter()

    @_settings(max_examples)
    @given(arrays(), st.sampled_from((None, "channels_first", "channels_last")))
    def run(array: np.ndarray, layout: str | None) -> None:
        settings = {"input_data_format": layout, "return_tensors": "pt"}
        (one, words), (other, _) = (answer(processor, array, **settings) for processor in PROCESSORS)
        assert (one is None) == (other is None)
        if one is None:
            assert REMEDY.search(words), words
        else:
            assert torch.isfinite(one.pixel_values).all() and one.pixel_values.shape[1] == 3
        segmentations, words = answer(segmenter, array)
        if segmentations is None:
            assert REMEDY.search(words), words
        else:
            assert all(one.label_map.max() < corpus.NUM_CLASSES for one in np.atleast_1d(segmentations))
        outcomes[segmentations is None] += 1

    run()
    assert len(outcomes) == 2


@pytest.mark.parametrize("max_examples", _counts)
def test_files_that_were_damaged(segmenter, photos, tmp_path, max_examples):
    """Bytes flipped, the end cut off, or a part of it twice."""
    whole = {name: content for name, content in corpus.whole_images(photos) if name.startswith(("photo", "tiff"))}
    outcomes = Counter()

    @_settings(max_examples)
    @given(st.sampled_from(sorted(whole)), _BYTES, st.one_of(st.just(1.0), st.floats(0, 1)), st.booleans())
    def run(name: str, flips: list[tuple[float, int]], kept: float, repeated: bool) -> None:
        damaged = bytearray(whole[name])
        for place, value in flips:
            damaged[int(place * len(damaged))] ^= value
        end = int(kept * len(damaged))
        path = tmp_path / f"damaged.{name}"
        path.write_bytes(damaged[:end] + (damaged[end // 2 : end] if repeated else b""))
        outcomes[check_file(segmenter, path)] += 1

    run()
    assert set(outcomes) == {"right", "refused"}


@pytest.mark.reliability
def test_predict_and_evaluate_go_on_after_bad_files(decided_model, photos, tmp_path):
    """The whole corpus in one process: exit code 1, one line about each bad file, and little memory."""
    model, place = tmp_path / "model", tmp_path / "images"
    save_model(decided_model, model)
    place.mkdir()
    good, bad = set(), set()
    for contents in (corpus.whole_images(photos), corpus.unusable_images(photos)):
        for name, content in contents:
            if not name.endswith((".apng", ".mpo")):
                (place / name).write_bytes(content)
                (bad if corpus.decode(place / name) is None else good).add(name)
    (place / "locked.jpg").write_bytes(corpus.encode(corpus.load_photo(photos), "JPEG"))
    (place / "locked.jpg").chmod(0)
    command = [sys.executable, "-m", "cgrseg_hf", "predict", str(place), "--output", str(tmp_path / "out")]
    if os.geteuid() == 0 and shutil.which("setpriv"):  # as somebody who may not read every file
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
        bad.add("locked.jpg")
    with (tmp_path / "printed").open("w") as printed:
        process = subprocess.Popen([*command, "--model", str(model), "--engine", "torch", "--json"], stdout=printed)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    report = json.loads((tmp_path / "printed").read_text(errors="surrogateescape"))
    assert process.returncode == 1 and usage.ru_maxrss / 1024 < _MOST_MEBIBYTES
    assert len(report["errors"]) == len(bad) and len(report["results"]) == len(good | {"locked.jpg"} - bad)
    for name in bad:
        assert any(lacks(line, place / name) is None for line in report["errors"]), name


def save_model(model: CGRSegForSemanticSegmentation, folder: Path) -> None:
    model.save_pretrained(folder)
    PROCESSORS[0].save_pretrained(folder)
