# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""ONNX, OpenVINO and programs of torch.export, run by their engines: the PyTorch model's logits and label maps."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor

from cgrseg_hf.engines import exported_engine, shape_cache
from cgrseg_hf.engines.exported_engine import OnnxRuntimeEngine, open_export
from cgrseg_hf.export.parity import RESIZING_TOLERANCE, TOLERANCES, Tolerance, make_picture

# Exporting with symbols for heights and widths takes ONNX and torch a minute and more.
LONG_ONNX, LONG_TORCH = (pytest.param(format, marks=pytest.mark.long) for format in ("onnx", "torch"))
EVERY_FORMAT = ("openvino", LONG_ONNX, LONG_TORCH)


@pytest.fixture(scope="module")
def image_processor(decided_folder):
    return AutoImageProcessor.from_pretrained(decided_folder)


@pytest.fixture
def logits_of(decided_model):
    @torch.no_grad()
    def logits_of(pixel_values: torch.Tensor) -> torch.Tensor:
        return decided_model(pixel_values).logits

    return logits_of


@pytest.fixture
def label_maps_of(decided_model, image_processor):
    """Label maps through the image processor: of images, or of pixels that are used as they are."""

    @torch.no_grad()
    def label_maps_of(inputs: torch.Tensor) -> torch.Tensor:
        if inputs.dtype == torch.uint8:
            outputs = decided_model(**image_processor(list(inputs.numpy()), return_tensors="pt"))
            target = inputs.shape[1:3]
        else:
            outputs = decided_model(inputs)
            target = inputs.shape[2:]
        return torch.stack(image_processor.post_process_semantic_segmentation(outputs, [target] * len(inputs)))

    return label_maps_of


def make_images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.stack([make_picture((height, width), seed + index) for index in range(batch)]))


def make_pixels(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Pixels that do not lie in the order of their axes in memory."""
    return make_images(batch, height, width, seed).permute(0, 3, 1, 2).float() / 50 - 2.5


def assert_logits_close(
    logits: torch.Tensor, expected: torch.Tensor, tolerance: Tolerance = TOLERANCES["float32"]
) -> None:
    assert logits.dtype == torch.float32
    assert logits.shape == expected.shape
    assert (logits - expected).abs().max() <= tolerance.logit_difference * expected.abs().max()
    assert (logits.argmax(dim=1) == expected.argmax(dim=1)).float().mean() >= tolerance.equal_labels


def assert_label_maps_equal(label_maps: torch.Tensor, expected: torch.Tensor) -> None:
    assert label_maps.dtype == torch.uint8
    assert label_maps.shape == expected.shape
    assert len(expected.unique()) > 1, "an image of one class proves nothing"
    assert (label_maps == expected).float().mean() > 0.999


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_logits_at_any_size(opened, logits_of, format):
    engine = opened(format)
    smallest = (3, 65, 66) if format == "torch" else (3, 32, 33)
    answers = []
    for shape in ((1, 97, 131), (2, 65, 96), smallest, (1, 160, 224)):
        pixels = make_pixels(*shape)
        answer, expected = engine(pixels), logits_of(pixels)
        assert expected.shape == (shape[0], 5, -(-shape[1] // 8), -(-shape[2] // 8))
        assert_logits_close(answer, expected)
        answers.append((answer, answer.clone()))
    for answer, before in answers:  # no later call writes into them
        torch.testing.assert_close(answer, before, rtol=0, atol=0)


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_label_maps_of_images(opened, label_maps_of, format):
    engine = opened(format, include_preprocessing=True, include_argmax=True)
    # Made larger, made smaller, and of the size that is resized to.
    for images in (make_images(2, 65, 87), make_images(1, 231, 150), make_images(1, 96, 128)):
        assert_label_maps_equal(engine(images), label_maps_of(images))


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx", "torch"])
def test_label_maps_of_pixels(opened, label_maps_of, format):
    engine = opened(format, include_argmax=True)
    for pixels in (make_pixels(1, 97, 131), make_pixels(2, 96, 160)):
        assert_label_maps_equal(engine(pixels), label_maps_of(pixels))


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_logits_of_images(opened, logits_of, image_processor, format):
    images = make_images(2, 65, 87)
    pixels = image_processor(list(images.numpy()), return_tensors="pt", do_pad=False)["pixel_values"]
    assert pixels.shape == (2, 3, 96, 128)
    assert_logits_close(opened(format, include_preprocessing=True)(images), logits_of(pixels), RESIZING_TOLERANCE)


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx", "torch"])
def test_one_size(opened, logits_of, format):
    settings = {"opset": 18} if format == "onnx" else {}
    engine = opened(format, size=(97, 131), **settings)
    if format == "onnx":
        import onnx

        model = onnx.load(engine.folder / "model.onnx")
        assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    pixels = make_pixels(1, 97, 131)
    for _ in range(4):
        assert_logits_close(engine(pixels), logits_of(pixels))
    assert not engine.copies.shapes
    for other in (make_pixels(1, 96, 131), make_pixels(2, 97, 131)):
        with pytest.raises(ValueError, match=f"one input of 97×131 pixels at a time, and got {len(other)} of"):
            engine(other)


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx", "torch"])
def test_one_size_of_images(opened, label_maps_of, format):
    images = make_images(1, 65, 87)
    engine = opened(format, size=(65, 87), include_preprocessing=True, include_argmax=True)
    assert_label_maps_equal(engine(images), label_maps_of(images))


@pytest.mark.long
@pytest.mark.parametrize(
    ("format", "precision"),
    [
        ("openvino", "float16"),
        ("openvino", "bfloat16"),
        ("onnx", "float16"),
        ("torch", "float16"),
        ("torch", "bfloat16"),
    ],
)
def test_sixteen_bits(exported, opened, logits_of, format, precision):
    report = exported(format, precision)
    assert report.parity.tolerance == TOLERANCES[precision]
    for shape in ((1, 97, 131), (2, 66, 96)):
        pixels = make_pixels(*shape)
        assert_logits_close(opened(format, precision)(pixels), logits_of(pixels), TOLERANCES[precision])
    if (format, precision) == ("openvino", "float16"):
        smaller, larger = (
            (one.folder / "model.bin").stat().st_size for one in (report, exported("openvino", "float32"))
        )
        assert smaller < 0.7 * larger


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_eight_bits(exported, opened, logits_of, photos, format):
    if format == "openvino":
        pytest.importorskip("nncf")
    settings = {"calibration": str(photos), "max_calibration": 4}
    report = exported(format, "int8", **settings)
    assert [one.picture for one in report.parity.comparisons[:5]] == ["a photo"] * 5
    assert len(report.parity.comparisons) == 9
    written = (report.folder / "export.json").read_text()
    assert "calibration photo 4" in written
    assert not [photo.name for photo in photos.iterdir() if photo.stem in written]
    assert report.parity.logit_difference > 0
    pixels = make_pixels(2, 97, 131)
    assert_logits_close(opened(format, "int8", **settings)(pixels), logits_of(pixels), TOLERANCES["int8"])
    if format == "onnx":
        import onnx

        nodes = {node.op_type for node in onnx.load(report.folder / "model.onnx").graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= nodes
        assert {file.name for file in report.folder.glob("*.onnx*")} == {"model.onnx"}
    else:
        assert 'type="FakeQuantize"' in (report.folder / "model.xml").read_text()
        with pytest.raises(ValueError, match="holds a int8 model, and float32 is asked for"):
            open_export(report.folder, dtype=torch.float32)


@pytest.mark.long
def test_onnx_files(exported):
    """They are whole, name their axes, and keep their type and device."""
    report = exported("onnx")
    import onnx
    import onnxruntime

    model = onnx.load(report.folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == report.settings.opset == 20
    (inputs,), (outputs,) = model.graph.input, model.graph.output
    assert (inputs.name, outputs.name) == ("pixel_values", "logits")
    axes = [axis.dim_param or axis.dim_value for axis in inputs.type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    assert not list(report.folder.glob("*.data"))
    with pytest.raises(ValueError, match="holds a float32 model, and float16 is asked for"):
        open_export(report.folder, dtype=torch.float16)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ValueError, match="install onnxruntime-gpu, or use device='cpu'"):
            OnnxRuntimeEngine(report.folder, torch.device("cuda"))


@pytest.mark.parametrize("format", ["openvino", LONG_ONNX])
def test_shapes_that_come_often_get_copies_that_answer_the_same(exported, monkeypatch, format):
    monkeypatch.setattr(shape_cache, "_CALLS_TO_EARN_ONE", 2)
    monkeypatch.setattr(exported_engine, "_LARGEST_COPY", 97 * 131)  # biases of larger ones would fill the memory
    engine = open_export(exported(format).folder, num_threads=1)
    pixels = [make_pixels(1, *size) for size in ((64, 96), (97, 131), (100, 131))]
    general = [engine(one) for one in pixels]
    assert not engine.copies.shapes
    for one, expected in zip(pixels, general):
        for _ in range(2):
            torch.testing.assert_close(engine(one), expected, rtol=0, atol=float(1e-4 * expected.abs().max()))
    assert engine.copies.shapes == [one.shape for one in pixels[:2]]


@pytest.mark.long
def test_programs_of_torch_at_any_size(opened):
    engine = opened("torch")
    for _ in range(4):
        engine(make_pixels(1, 66, 96))
    assert not engine.copies.shapes
    with pytest.raises(ValueError, match=r"does not take \(1, 3, 64, 96\) .*make the images larger"):
        engine(make_pixels(1, 64, 96))


@pytest.mark.parametrize("format", ["openvino", LONG_ONNX])
def test_threads_take_turns(opened, logits_of, format):
    pixels = [make_pixels(1, 64, 96, seed=seed) for seed in range(4)] * 3
    with ThreadPoolExecutor(4) as pool:
        for one, answer in zip(pixels, pool.map(opened(format), pixels), strict=True):
            assert_logits_close(answer, logits_of(one))


def test_children_may_end_after_openvino_files(exported):
    """The end of a child process is a signal, which is handled on a stack that OpenVINO must not have taken away."""
    program = """if True:
        import signal, subprocess, sys
        from cgrseg_hf.engines.exported_engine import open_export
        signal.signal(signal.SIGCHLD, lambda *_: None)
        first, second = open_export(sys.argv[1]), open_export(sys.argv[1])
        del first
        del second
        subprocess.run([sys.executable, "-c", ""], check=True)
    """
    subprocess.run([sys.executable, "-c", program, str(exported("openvino").folder)], check=True)
