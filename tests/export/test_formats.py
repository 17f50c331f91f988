# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""ONNX, OpenVINO and programs of torch.export, run by their engines: the PyTorch model's logits and label maps."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor

from cgrseg_hf.engines import runtimes, shape_cache
from cgrseg_hf.engines.runtimes import load_runtime
from cgrseg_hf.export.parity import RESIZING_TOLERANCE, TOLERANCES, Tolerance, make_picture

# Programs in which heights and widths are symbols take their exporters a minute and more; those of one size do not.
LONG_ONNX, LONG_TORCH = (pytest.param(format, marks=pytest.mark.long) for format in ("onnx", "torch"))
EVERY_FORMAT = ("openvino", LONG_ONNX, LONG_TORCH)


@pytest.fixture(scope="module")
def image_processor(decided_folder):
    return AutoImageProcessor.from_pretrained(decided_folder)


@pytest.fixture
def logits_of(decided_model):
    @torch.no_grad()
    def logits_of(pixel_values: np.ndarray) -> np.ndarray:
        return decided_model(torch.from_numpy(pixel_values)).logits.numpy()

    return logits_of


@pytest.fixture
def label_maps_of(decided_model, image_processor):
    """Label maps through the image processor: of pictures, or of pixels that are used as they are."""

    @torch.no_grad()
    def label_maps_of(inputs: np.ndarray) -> np.ndarray:
        if inputs.dtype == np.uint8:
            outputs = decided_model(**image_processor(list(inputs), return_tensors="pt"))
            target = inputs.shape[1:3]
        else:
            outputs = decided_model(torch.from_numpy(inputs))
            target = inputs.shape[2:]
        label_maps = image_processor.post_process_semantic_segmentation(outputs, [target] * len(inputs))
        return torch.stack(label_maps).numpy()

    return label_maps_of


def make_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    batch, _, height, width = shape
    pictures = [make_picture((height, width), seed + index) for index in range(batch)]
    return np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 50 - 2.5


def make_pictures(batch: int, height: int, width: int) -> np.ndarray:
    return np.stack([make_picture((height, width), seed) for seed in range(batch)])


def assert_logits_close(logits: np.ndarray, expected: np.ndarray, tolerance: Tolerance = TOLERANCES["float32"]) -> None:
    assert logits.dtype == np.float32
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= tolerance.logit_difference * np.abs(expected).max()
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() >= tolerance.equal_labels


def assert_label_maps_equal(label_maps: np.ndarray, expected: np.ndarray) -> None:
    assert label_maps.dtype == np.uint8
    assert label_maps.shape == expected.shape
    assert len(np.unique(expected)) > 1, "a picture of one class proves nothing"
    assert (label_maps == expected).mean() > 0.999


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_logits_at_any_size(runtime, logits_of, format):
    run = runtime(format)
    smallest = (3, 3, 65, 66) if format == "torch" else (3, 3, 32, 33)
    for shape in ((1, 3, 97, 131), (2, 3, 65, 96), smallest, (1, 3, 160, 224)):
        pixels = make_pixels(*shape)
        expected = logits_of(pixels)
        assert expected.shape == (shape[0], 5, -(-shape[2] // 8), -(-shape[3] // 8))
        assert_logits_close(run(pixels), expected)


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_label_maps_of_pictures(runtime, label_maps_of, format):
    run = runtime(format, include_preprocessing=True, include_argmax=True)
    # Made larger, made smaller, and of the size that is resized to.
    for pictures in (make_pictures(2, 65, 87), make_pictures(1, 231, 150), make_pictures(1, 96, 128)):
        assert_label_maps_equal(run(pictures), label_maps_of(pictures))


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx", "torch"])
def test_label_maps_of_pixels(runtime, label_maps_of, format):
    run = runtime(format, include_argmax=True)
    for pixels in (make_pixels(1, 3, 97, 131), make_pixels(2, 3, 96, 160)):
        assert_label_maps_equal(run(pixels), label_maps_of(pixels))


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_logits_of_pictures(runtime, logits_of, image_processor, format):
    run = runtime(format, include_preprocessing=True)
    pictures = make_pictures(2, 65, 87)
    pixels = image_processor(list(pictures), return_tensors="np", do_pad=False)["pixel_values"]
    assert pixels.shape == (2, 3, 96, 128)
    assert_logits_close(run(pictures), logits_of(np.asarray(pixels)), RESIZING_TOLERANCE)


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx", "torch"])
def test_one_size(runtime, logits_of, format):
    run = runtime(format, size=(97, 131))
    pixels = make_pixels(1, 3, 97, 131)
    for _ in range(4):
        assert_logits_close(run(pixels), logits_of(pixels))
    assert not run.copies.shapes
    for other in (make_pixels(1, 3, 96, 131), make_pixels(2, 3, 97, 131)):
        with pytest.raises(ValueError, match=f"one input of 97×131 pixels at a time, and got {len(other)} of"):
            run(other)


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx", "torch"])
def test_one_size_of_pictures(runtime, label_maps_of, format):
    run = runtime(format, size=(65, 87), include_preprocessing=True, include_argmax=True)
    pictures = make_pictures(1, 65, 87)
    assert_label_maps_equal(run(pictures), label_maps_of(pictures))


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
def test_sixteen_bits(exported, runtime, logits_of, format, precision):
    report = exported(format, precision)
    assert report.parity.tolerance == TOLERANCES[precision]
    for shape in ((1, 3, 97, 131), (2, 3, 66, 96)):
        pixels = make_pixels(*shape)
        assert_logits_close(runtime(format, precision)(pixels), logits_of(pixels), TOLERANCES[precision])


@pytest.mark.long
def test_float16_files_are_smaller(exported):
    sizes = {precision: weights_in(exported("openvino", precision).folder) for precision in ("float32", "float16")}
    assert sizes["float16"] < 0.7 * sizes["float32"]


def weights_in(folder) -> int:
    return (folder / "model.bin").stat().st_size


@pytest.mark.long
@pytest.mark.parametrize("format", ["openvino", "onnx"])
def test_eight_bits(exported, runtime, logits_of, photos, format):
    if format == "openvino":
        pytest.importorskip("nncf")
    report = exported(format, "int8", calibration=str(photos), max_calibration=4)
    assert [one.picture for one in report.parity.comparisons[:5]] == ["a photo"] * 5
    assert len(report.parity.comparisons) == 9
    written = (report.folder / "export.json").read_text()
    assert "calibration photo 4" in written
    assert not [photo.name for photo in photos.iterdir() if photo.stem in written]
    assert report.parity.logit_difference > 0
    run = runtime(format, "int8", calibration=str(photos), max_calibration=4)
    pixels = make_pixels(2, 3, 97, 131)
    assert_logits_close(run(pixels), logits_of(pixels), TOLERANCES["int8"])
    if format == "onnx":
        import onnx

        nodes = {node.op_type for node in onnx.load(report.folder / "model.onnx").graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= nodes
        assert {file.name for file in report.folder.glob("*.onnx*")} == {"model.onnx"}
    else:
        assert 'type="FakeQuantize"' in (report.folder / "model.xml").read_text()
        with pytest.raises(ValueError, match="holds a int8 model, and float32 is asked for"):
            load_runtime(report.folder, precision="float32")


def test_openvino_computes_in_another_type(exported, logits_of):
    folder = exported("openvino").folder
    pixels = make_pixels(1, 3, 97, 131)
    run = load_runtime(folder, num_threads=1, precision="bfloat16")
    assert run.precision == "bfloat16"
    assert_logits_close(run(pixels), logits_of(pixels), TOLERANCES["bfloat16"])
    with pytest.raises(ValueError, match="holds a float32 model, and int8 is asked for"):
        load_runtime(folder, precision="int8")
    with pytest.raises(ValueError, match="run on the CPU alone"):
        load_runtime(folder, device="cuda")


@pytest.mark.long
def test_onnx_files_keep_their_type_and_device(exported):
    folder = exported("onnx").folder
    with pytest.raises(ValueError, match="holds a float32 model, and float16 is asked for"):
        load_runtime(folder, precision="float16")
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ValueError, match="install onnxruntime-gpu, or use device='cpu'"):
            load_runtime(folder, device="cuda")


@pytest.mark.long
def test_onnx_files_are_whole_and_name_their_axes(exported):
    report = exported("onnx")
    import onnx

    model = onnx.load(report.folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == report.settings.opset == 20
    (inputs,), (outputs,) = model.graph.input, model.graph.output
    assert (inputs.name, outputs.name) == ("pixel_values", "logits")
    axes = [axis.dim_param or axis.dim_value for axis in inputs.type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    assert not list(report.folder.glob("*.data"))


@pytest.mark.parametrize("format", ["openvino", LONG_ONNX])
def test_shapes_that_come_often_get_copies_that_answer_the_same(exported, monkeypatch, format):
    monkeypatch.setattr(shape_cache, "_CALLS_TO_EARN_ONE", 2)
    monkeypatch.setattr(shape_cache, "_KEPT", 2)
    monkeypatch.setattr(shape_cache, "_CALLS_REMEMBERED", 4)
    run = load_runtime(exported(format).folder, num_threads=1)
    pixels = [make_pixels(1, 3, *size) for size in ((64, 96), (97, 131), (65, 65))]
    general = [run(one) for one in pixels]
    assert not run.copies.shapes
    for one, expected in zip(pixels, general):
        for _ in range(2):
            np.testing.assert_allclose(run(one), expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    # The copy that was used longest ago had to go.
    assert run.copies.shapes == [one.shape for one in pixels[1:]]
    np.testing.assert_allclose(run(pixels[0]), general[0], rtol=0, atol=1e-4 * np.abs(general[0]).max())


def test_rare_shapes_get_no_copy(exported):
    run = load_runtime(exported("openvino").folder, num_threads=1)
    often, rare = make_pixels(1, 3, 32, 64), make_pixels(1, 3, 64, 32)
    for _ in range(shape_cache._CALLS_TO_EARN_ONE - 1):
        run(often)
        run(rare)
    assert not run.copies.shapes
    run(often)
    assert run.copies.shapes == [often.shape]


@pytest.mark.long
def test_large_shapes_get_no_copies(exported, monkeypatch):
    """Their attention biases would fill the memory."""
    monkeypatch.setattr(runtimes, "_LARGEST_COPY", 64 * 96)
    run = load_runtime(exported("openvino").folder, num_threads=1)
    large, small = torch.randn(1, 3, 96, 96).numpy(), torch.randn(1, 3, 64, 96).numpy()
    for _ in range(shape_cache._CALLS_TO_EARN_ONE):
        run(large)
        run(small)
    assert run.copies.shapes == [small.shape]


@pytest.mark.long
def test_programs_of_torch_need_no_copies(runtime):
    run = runtime("torch")
    for _ in range(shape_cache._CALLS_TO_EARN_ONE + 1):
        run(make_pixels(1, 3, 66, 96))
    assert not run.copies.shapes
    with pytest.raises(ValueError, match=r"does not take \(1, 3, 64, 96\) .*make pictures larger"):
        run(make_pixels(1, 3, 64, 96))


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_answers_are_the_callers_own(runtime, format):
    run = runtime(format)
    first = run(make_pixels(1, 3, 66, 96))
    before = first.copy()
    second = run(make_pixels(1, 3, 66, 96, seed=7))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_inputs_that_are_views(runtime, logits_of, format):
    pixels = make_pixels(2, 3, 97, 131)[:, ::-1, :, ::-1]
    assert_logits_close(runtime(format)(pixels), logits_of(pixels.copy()))


@pytest.mark.parametrize("format", ["openvino", LONG_ONNX])
def test_threads_take_turns(runtime, logits_of, format):
    run = runtime(format)
    pixels = [make_pixels(1, 3, 64, 96, seed=seed) for seed in range(4)]
    answers = {}

    def work(index: int) -> None:
        for _ in range(3):
            answers.setdefault(index, []).append(run(pixels[index]))

    threads = [threading.Thread(target=work, args=[index]) for index in range(len(pixels))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, one in enumerate(pixels):
        assert len(answers[index]) == 3
        for answer in answers[index]:
            assert_logits_close(answer, logits_of(one))


def test_children_may_end_after_openvino_files(exported):
    """The end of a child process is a signal, which is handled on a stack that OpenVINO must not have taken away."""
    program = """if True:
        import signal, subprocess, sys
        from cgrseg_hf.engines.runtimes import load_runtime
        signal.signal(signal.SIGCHLD, lambda *_: None)
        first, second = load_runtime(sys.argv[1]), load_runtime(sys.argv[1])
        del first
        del second
        subprocess.run([sys.executable, "-c", ""], check=True)
    """
    subprocess.run([sys.executable, "-c", program, str(exported("openvino").folder)], check=True)
