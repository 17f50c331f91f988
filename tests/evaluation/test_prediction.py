# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Test protocols: the reference's numbers, and what must not change a label map."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor
from transformers.modeling_outputs import SemanticSegmenterOutput

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegImageProcessorPil
from cgrseg_hf.conversion import from_official
from cgrseg_hf.evaluation import EvaluationProtocol, predict_label_map, prediction

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = ["000000010014", "000000010114", "000000012062"]
COVERING = {"slide": True, "crop_size": (512, 512), "stride": (300, 300)}


class BrightestChannel(torch.nn.Module):
    """A model that looks at one pixel at a time: its class is the brightest channel."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.config = SimpleNamespace(model_type="test")

    def forward(self, pixel_values: torch.Tensor) -> SemanticSegmenterOutput:
        return SemanticSegmenterOutput(logits=pixel_values * self.scale)


@pytest.fixture(scope="module")
def reference_t(official_state_dict) -> CGRSegForSemanticSegmentation:
    return from_official(official_state_dict("t")).eval()


def photo(name: str = NAMES[0]) -> Image.Image:
    return Image.open(FIXTURES / "photos" / "images" / f"{name}.jpg")


def small_photo() -> Image.Image:
    return photo().resize((61, 43))


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "parity" / "protocol_t.npz") as stored:
        return {key.removeprefix(f"{name}_"): stored[key] for key in stored if key.startswith(name)}


@pytest.mark.parametrize("processor_class", [CGRSegImageProcessor, CGRSegImageProcessorPil])
def test_reference_protocol(processor_class: type, reference_t):
    for name in NAMES if processor_class is CGRSegImageProcessor else NAMES[:1]:
        ours = predict_label_map(reference_t, photo(name), processor_class(), EvaluationProtocol(reference=True))
        assert ours.dtype == torch.uint8
        assert (ours.numpy()[::2, ::2] == arrays(name)["label_map"]).mean() >= 0.9995


@pytest.mark.parametrize("name", NAMES)
def test_resized_as_the_reference_does(name: str):
    expected = arrays(name)
    size = tuple(expected["sizes"][2:4].tolist())
    resized = prediction.resize_as_reference(np.asarray(photo(name).convert("RGB")), size)
    assert resized.shape == (*size, 3)
    differences = np.abs(resized[::3, ::3].astype(int) - expected["resized_rgb"])
    assert differences.max() <= 1 and (differences > 0).mean() < 0.002


def test_one_pass_is_that_of_the_image_processor(model, image_processor):
    inputs = image_processor(small_photo(), return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    expected = image_processor.post_process_semantic_segmentation(outputs, target_sizes=[(43, 61)])[0]
    assert len(expected.unique()) > 1
    torch.testing.assert_close(predict_label_map(model, small_photo(), image_processor).long(), expected)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("other", [COVERING, {"scales": (1.0, 1.0)}])
def test_same_as_whole(other: dict, reference: bool, model, image_processor):
    whole = predict_label_map(model, small_photo(), image_processor, EvaluationProtocol(reference=reference))
    same = predict_label_map(model, small_photo(), image_processor, EvaluationProtocol(reference=reference, **other))
    torch.testing.assert_close(same, whole)


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize(
    "protocol",
    [{"flip": True}, {"slide": True, "crop_size": (20, 32), "stride": (13, 32)}, {"scales": (1.0, 1.5), "flip": True}],
)
def test_model_of_single_pixels_sees_no_difference(protocol: dict, reference: bool):
    # Wide patches of colour: no border is resized away. The image's size makes padding on both sides.
    pixels = np.zeros((50, 70, 3), dtype=np.uint8)
    pixels[:20, :, 0] = pixels[20:, :30, 1] = pixels[20:, 30:, 2] = 200
    processor = CGRSegImageProcessor(size={"shortest_edge": 50, "longest_edge": 400})
    how = EvaluationProtocol(reference=reference, **protocol)
    ours = predict_label_map(BrightestChannel(), Image.fromarray(pixels), processor, how)
    assert (ours.numpy() == pixels.argmax(2)).mean() > 0.98


def test_scales_are_those_of_the_resized_image(image_processor):
    sizes = []

    class Watching(BrightestChannel):
        def forward(self, pixel_values: torch.Tensor) -> SemanticSegmenterOutput:
            sizes.append(tuple(pixel_values.shape[-2:]))
            return super().forward(pixel_values)

    how = EvaluationProtocol(scales=(0.5, 1.0, 2.0), flip=True)
    predict_label_map(Watching(), small_photo(), image_processor, how)
    assert sizes == [size for size in [(32, 64), (64, 96), (96, 160)] for _ in range(2)]
    sizes.clear()
    predict_label_map(Watching(), small_photo(), CGRSegImageProcessor(do_resize=False), EvaluationProtocol((2.0,)))
    assert sizes == [(96, 128)]


def test_windows_cover_everything_and_stay_inside():
    for length, crop, stride in [(10, 4, 3), (11, 4, 4), (4, 4, 1), (3, 4, 2), (1, 1, 1), (512, 512, 341)]:
        windows = list(prediction._windows(length, crop, stride))
        covered = np.zeros(length, dtype=int)
        for window in windows:
            assert window.stop <= length and window.stop - window.start == min(crop, length)
            covered[window] += 1
        assert covered.min() >= 1
        assert len({(window.start, window.stop) for window in windows}) == len(windows)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 29)])
@pytest.mark.parametrize(
    "how",
    [
        EvaluationProtocol(),
        EvaluationProtocol(reference=True),
        EvaluationProtocol(scales=(0.5, 1.75), flip=True, slide=True, crop_size=(24, 33), stride=(24, 20)),
    ],
)
def test_any_size(size: tuple[int, int], how: EvaluationProtocol, model, image_processor):
    label_map = predict_label_map(model, Image.new("RGB", size[::-1], "green"), image_processor, how)
    assert label_map.shape == size


def test_turned_as_the_exif_says(model, image_processor):
    turned = small_photo()
    turned.getexif()[0x0112] = 6
    assert predict_label_map(model, turned, image_processor).shape == (61, 43)


@pytest.mark.parametrize(
    "how",
    [EvaluationProtocol(), EvaluationProtocol(scales=(0.5, 1.0), flip=True), EvaluationProtocol(reference=True)],
)
def test_segformer(how: EvaluationProtocol):
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=300, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1]
    )
    segformer = SegformerForSemanticSegmentation(config).eval()
    processor = SegformerImageProcessor(size={"height": 64, "width": 64})
    label_map = predict_label_map(segformer, small_photo(), processor, how)
    assert label_map.shape == (43, 61) and label_map.dtype == torch.int32
    if how == EvaluationProtocol():
        with torch.no_grad():
            outputs = segformer(**processor(small_photo(), return_tensors="pt"))
        expected = processor.post_process_semantic_segmentation(outputs, target_sizes=[(43, 61)])[0]
        torch.testing.assert_close(label_map.long(), expected)


def test_narrow_types(model, image_processor):
    whole = predict_label_map(model, small_photo(), image_processor)
    autocast = predict_label_map(model, small_photo(), image_processor, autocast=torch.bfloat16)
    assert (autocast == whole).float().mean() > 0.9
    narrow = CGRSegForSemanticSegmentation(model.config).to(torch.bfloat16).eval()
    narrow.load_state_dict(model.state_dict())
    assert (predict_label_map(narrow, small_photo(), image_processor) == whole).float().mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, r"scales=\(\)"),
        ({"scales": (1.0, -1.0)}, "-1"),
        ({"scales": (float("nan"),)}, "nan"),
        ({"crop_size": (512,)}, r"crop_size=\(512,\)"),
        ({"stride": (0, 10)}, r"stride=\(0, 10\)"),
        ({"crop_size": (32, 512), "stride": (33, 341)}, r"stride=\(33, 341\)"),
    ],
)
def test_refuses_protocols_that_cannot_be(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        EvaluationProtocol(**settings)


def test_describes_itself():
    assert EvaluationProtocol().describe() == "whole image, scale 1, logits resized in one step"
    how = EvaluationProtocol((0.5, 1), flip=True, slide=True, reference=True)
    assert how.describe() == (
        "windows of 512×512 pixels every 341×341, scales 0.5 1, mirrored too, logits resized in the reference's two "
        "steps"
    )
