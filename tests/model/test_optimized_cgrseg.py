# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The inference form computes what the model computes."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import ConvNextV2Config, pipeline
from transformers.utils import logging

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.model.modeling_efficientformerv2 import EfficientFormerV2PositionBias, LayerScale
from cgrseg_hf.pretrained import DEFAULT_MODEL

PHOTO = str(Path(__file__).parents[1] / "fixtures" / "photos" / "images" / "000000015517.jpg")


def make_model(**settings) -> CGRSegForSemanticSegmentation:
    """A model in which every part matters, none of them being as it was initialised."""
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset("xs", num_labels=7, **settings)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, EfficientFormerV2PositionBias):
            nn.init.normal_(module.table)
        elif isinstance(module, LayerScale):
            nn.init.uniform_(module.scale, 0.2, 0.5)
    if model.head.use_prototype:
        nn.init.normal_(model.head.gate_projection.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


@torch.no_grad()
def assert_same(model, form, pixel_values, tolerance=1e-4):
    expected, outputs = model(pixel_values), form(pixel_values)
    assert outputs.logits.shape == expected.logits.shape
    torch.testing.assert_close(outputs.logits, expected.logits, atol=tolerance, rtol=tolerance)
    if expected.image_sizes is None:
        assert outputs.image_sizes is None
    else:
        assert torch.equal(outputs.image_sizes, expected.image_sizes)


@pytest.mark.parametrize("size", [(512, 512), (97, 211), (64, 33), (1, 1), (224, 640)])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_logits_are_the_models(model, size, batch_size):
    assert_same(model, model.optimize_for_inference(), torch.randn(batch_size, 3, *size))


def test_attention_in_parts(model, monkeypatch):
    form = model.optimize_for_inference()
    monkeypatch.setattr("cgrseg_hf.model.optimized_cgrseg._SCORES_AT_ONCE", 2**14)
    monkeypatch.setattr("cgrseg_hf.model.optimized_cgrseg._KEPT_BIASES", 2**12)
    assert_same(model, form, torch.randn(2, 3, 320, 480))


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dynamic_prototype_head": False},
        {"use_rcm_in_pyramid_context": False, "use_rcm_in_reconstruction": False},
        {"hidden_act": "silu", "backbone_config": {"hidden_act": "relu"}},
    ],
)
def test_variants(settings):
    model = make_model(**settings)
    assert_same(model, model.optimize_for_inference(), torch.randn(1, 3, 96, 160))


def test_another_backbone():
    backbone_config = ConvNextV2Config(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32])
    model = CGRSegForSemanticSegmentation(CGRSegConfig(backbone_config=backbone_config, num_labels=3)).eval()
    assert_same(model, model.optimize_for_inference(), torch.randn(2, 3, 64, 96))


def test_without_fused_kernels(model):
    form = model.optimize_for_inference()
    with torch.backends.mkldnn.flags(enabled=False):
        assert_same(model, form, torch.randn(1, 3, 96, 160))


def test_compiled(model):
    compiled = torch.compile(model.optimize_for_inference(), fullgraph=True, backend="aot_eager")
    assert_same(model, compiled, torch.randn(1, 3, 97, 130))


@pytest.mark.long
def test_exported_with_dynamic_sizes(model):
    sizes = {2: torch.export.Dim("height", min=65, max=2048), 3: torch.export.Dim("width", min=65, max=2048)}
    form = model.optimize_for_inference()
    program = torch.export.export(form, (torch.randn(1, 3, 128, 160),), dynamic_shapes={"pixel_values": sizes})
    pixel_values = torch.randn(1, 3, 101, 257)
    with torch.no_grad():
        logits = program.module()(pixel_values).logits
        torch.testing.assert_close(logits, model(pixel_values).logits, atol=1e-4, rtol=1e-4)


def test_bfloat16_on_a_photo():
    image_processor = CGRSegImageProcessor.from_pretrained(DEFAULT_MODEL)
    model = CGRSegForSemanticSegmentation.from_pretrained(DEFAULT_MODEL)
    pixel_values = image_processor(PHOTO, return_tensors="pt").pixel_values
    form = model.optimize_for_inference().to(torch.bfloat16)
    with torch.no_grad():
        logits = form(pixel_values.to(torch.bfloat16)).logits
        expected = model(pixel_values).logits
    assert logits.dtype == torch.bfloat16
    assert (logits.argmax(dim=1) == expected.argmax(dim=1)).float().mean() > 0.97


def test_the_model_stays_as_it_was(model):
    before = copy.deepcopy(model.state_dict())
    form = model.optimize_for_inference()
    form(torch.randn(1, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in form.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    nn.init.zeros_(form.head.weight)
    assert model.head.classifier.weight.any()


def test_results_are_not_overwritten_by_the_next(model):
    form = model.optimize_for_inference()
    pixel_values = torch.randn(1, 3, 64, 96)
    first = form(pixel_values).logits
    kept = first.clone()
    form(torch.randn(1, 3, 64, 96))
    assert torch.equal(first, kept)
    assert torch.equal(form(pixel_values).logits, kept)


def test_resized_attention_biases_take_little_memory(model, monkeypatch):
    form = model.optimize_for_inference()
    sizes = [(64, 96), (96, 96), (128, 96)]
    for size in sizes:
        form(torch.randn(1, 3, *size))
    biases = [module for module in form.modules() if getattr(module, "kept", None)]
    assert biases and all(len(module.kept) == 3 for module in biases)
    largest = max(bias.nbytes for module in biases for bias in module.kept.values())
    monkeypatch.setattr("cgrseg_hf.model.optimized_cgrseg._KEPT_BIASES", largest)
    form = model.optimize_for_inference()
    for size in sizes * 2:
        assert_same(model, form, torch.randn(1, 3, *size))
        for module in form.modules():
            assert sum(bias.nbytes for bias in getattr(module, "kept", {}).values()) <= largest


def test_training_and_saving_are_refused(model, tmp_path):
    form = model.optimize_for_inference()
    assert form.eval() is form
    with pytest.raises(ValueError, match="cannot be trained"):
        form.train()
    with pytest.raises(ValueError, match="cannot be saved"):
        form.save_pretrained(tmp_path)


def test_copies_and_moves(model):
    form = model.optimize_for_inference()
    pixel_values = torch.randn(1, 3, 64, 96)
    form(pixel_values)  # packs weights
    assert_same(model, copy.deepcopy(form), pixel_values)
    assert form.to(torch.bfloat16)(pixel_values.to(torch.bfloat16)).logits.dtype == torch.bfloat16
    assert_same(model, form.float(), pixel_values, tolerance=0.05)  # weights were rounded on the way


def test_in_the_pipeline(caplog):
    model = CGRSegForSemanticSegmentation.from_pretrained(DEFAULT_MODEL)
    image_processor = CGRSegImageProcessor.from_pretrained(DEFAULT_MODEL)
    logging.enable_propagation()
    plain, fast = (
        pipeline("image-segmentation", model=one, image_processor=image_processor)
        for one in (model, model.optimize_for_inference())
    )
    assert "not supported" not in caplog.text
    parts, expected = fast(PHOTO), plain(PHOTO)
    assert [part["label"] for part in parts] == [part["label"] for part in expected]


def test_remote_code(model, tmp_path):
    """A saved folder has the inference form's file too."""
    model.save_pretrained(tmp_path)
    assert (tmp_path / "optimized_cgrseg.py").exists()
