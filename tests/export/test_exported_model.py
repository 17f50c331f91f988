# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Exported folders in the Segmenter and in pipelines of transformers: the PyTorch model's label maps."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, pipeline

from cgrseg_hf.export import ExportedModel
from cgrseg_hf.export.parity import make_picture
from cgrseg_hf.inference import Segmenter

LONG_ONNX, LONG_TORCH = (pytest.param(format, marks=pytest.mark.long) for format in ("onnx", "torch"))
EVERY_FORMAT = ("openvino", LONG_ONNX, LONG_TORCH)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(make_picture((75, 110)))


@pytest.fixture(scope="module")
def model(exported) -> ExportedModel:
    return ExportedModel.from_pretrained(exported("openvino").folder, num_threads=1)


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_segmenter(exported, decided_folder, picture, format):
    expected = Segmenter.from_pretrained(decided_folder, "torch")(picture)
    segmenter = Segmenter.from_pretrained(exported(format).folder, trust_remote_code=True)
    assert segmenter.engine.name == {"onnx": "onnxruntime"}.get(format, format)
    assert len(expected.class_ids) > 1
    np.testing.assert_array_equal(segmenter(picture).label_map, expected.label_map)


@pytest.mark.parametrize("format", EVERY_FORMAT)
def test_pipeline(exported, decided_model, picture, format):
    folder = exported(format).folder
    image_processor = AutoImageProcessor.from_pretrained(folder)
    segmented = [
        pipeline("image-segmentation", model=model, image_processor=image_processor, device="cpu")(picture)
        for model in (ExportedModel.from_pretrained(folder, trust_remote_code=True), decided_model)
    ]
    assert len(segmented[0]) > 1
    for one, other in zip(*segmented, strict=True):
        assert one["label"] == other["label"]
        np.testing.assert_array_equal(np.asarray(one["mask"]), np.asarray(other["mask"]))


def test_forward_is_the_models(model, decided_model):
    pixels = torch.randn(2, 3, 97, 131, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = decided_model(pixels)
    outputs = model(pixels)
    torch.testing.assert_close(outputs.logits, expected.logits, rtol=0, atol=1e-3)
    assert outputs.image_sizes.tolist() == expected.image_sizes.tolist() == [[97, 131]] * 2
    image_sizes = torch.tensor([[90, 120], [97, 131]])
    assert model(pixel_values=pixels, image_sizes=image_sizes).image_sizes is image_sizes
    assert (model.device.type, model.dtype) == ("cpu", torch.float32)
    assert model.config.id2label == decided_model.config.id2label


def test_what_an_export_cannot_do(model, tmp_path):
    with pytest.raises(ValueError, match="cannot be trained: train the model that it was made from"):
        model.train()
    assert model.eval() is model and not model.training
    with pytest.raises(ValueError, match="An exported model is its folder: copy that"):
        model.save_pretrained(tmp_path / "saved")
    assert not list(tmp_path.iterdir())
    assert model.to("cpu") is model.to(torch.float32) is model
    for target in (torch.float16, torch.device("meta")):
        with pytest.raises(ValueError, match="stays on cpu with pixels in float32"):
            model.to(target)


def test_folders_that_do_not_fit(exported, decided_folder):
    with pytest.raises(ValueError, match=r"has no export\.json"):
        ExportedModel.from_pretrained(decided_folder)
    with pytest.raises(ValueError, match="takes image and returns labels"):
        ExportedModel.from_pretrained(exported("openvino", include_preprocessing=True, include_argmax=True).folder)
