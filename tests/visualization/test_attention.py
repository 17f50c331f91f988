# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Recorded attention is what the model computes with, and recording leaves no trace."""

import copy
import importlib.util
import inspect

import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegModel
from cgrseg_hf.model.modeling_cgrseg import RectangularSelfCalibrationAttention
from cgrseg_hf.visualization import draw_rectangular_attention, record_attention
from cgrseg_hf.visualization.attention import _find_range

NAMES = [
    "cgrseg.pyramid_context.blocks.0.attention",
    "cgrseg.reconstruction.calibrations.2.attention",
    "cgrseg.reconstruction.calibrations.1.attention",
    "cgrseg.reconstruction.calibrations.0.attention",
]


@pytest.fixture
def model(tiny_config) -> CGRSegForSemanticSegmentation:
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config()).eval()
    for module in model.modules():
        if isinstance(module, RectangularSelfCalibrationAttention):
            torch.nn.init.normal_(module.vertical_strip.weight, std=2.0)
    return model


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.randn(2, 3, 97, 211, generator=torch.Generator().manual_seed(0))


def test_rectangular_attention_is_what_the_features_are_multiplied_by(model, pixel_values):
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, RectangularSelfCalibrationAttention):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: seen.update({name: (module.local(inputs[0]), output)})
            )
    recorded = record_attention(model, pixel_values)
    assert list(recorded.rectangular) == NAMES
    assert [tuple(one.shape) for one in recorded.rectangular.values()] == [
        (2, 80, 2, 4),
        (2, 32, 4, 7),
        (2, 32, 8, 14),
        (2, 16, 16, 28),
    ]
    for name, attention in recorded.rectangular.items():
        local, output = seen[name]
        torch.testing.assert_close(attention * local, output)
        assert 0 <= attention.min() < 0.4 and 0.6 < attention.max() <= 1


def test_prototype_weights_are_those_of_the_prototype(model, pixel_values):
    weights = record_attention(model, pixel_values).prototype_weights
    assert weights.shape == (2, 5)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    head = model.head
    with torch.no_grad():
        features = model.cgrseg(pixel_values).last_hidden_state
        coarse = head.classifier(head.activation(head.coarse_normalization(head.coarse_convolution(features))))
        over_pixels = coarse.flatten(2).softmax(dim=2)
        embeddings = torch.einsum("bkp,bdp->bkd", over_pixels, features.flatten(2))
        torch.testing.assert_close(
            torch.einsum("bk,bkd->bd", weights, embeddings), head.prototype(features, coarse), rtol=1e-4, atol=1e-4
        )


def test_the_model_is_afterwards_as_it_was(model, pixel_values):
    expected = record_attention(model, pixel_values)
    model.train()
    model.cgrseg.pyramid_context.eval()
    model.activation_checkpointing_enable()  # must not hide anything
    modes = {name: module.training for name, module in model.named_modules()}
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recorded = record_attention(model, pixel_values)
    with pytest.raises(ValueError, match="is expected"):
        record_attention(model, pixel_values[0])
    assert {name: module.training for name, module in model.named_modules()} == modes
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, tensors[name], rtol=0, atol=0)
    assert not any(attention.requires_grad for attention in recorded.rectangular.values())
    torch.testing.assert_close(recorded.rectangular, expected.rectangular)
    torch.testing.assert_close(recorded.prototype_weights, expected.prototype_weights)
    first = recorded.rectangular[NAMES[0]].clone()
    with torch.no_grad():
        model(torch.zeros_like(pixel_values))  # no hook is left
    torch.testing.assert_close(recorded.rectangular[NAMES[0]], first, rtol=0, atol=0)


def test_compiled_models_and_models_without_a_head(model, pixel_values):
    expected = record_attention(model, pixel_values)
    wrapped, in_place = torch.compile(model, backend="eager"), copy.deepcopy(model)
    in_place.compile(backend="eager")
    for compiled in (wrapped, in_place):
        with torch.no_grad():
            compiled(pixel_values)
        recorded = record_attention(compiled, pixel_values)
        torch.testing.assert_close(recorded.rectangular, expected.rectangular)
        torch.testing.assert_close(recorded.prototype_weights, expected.prototype_weights)
    without_head = record_attention(model.cgrseg, pixel_values)
    assert isinstance(model.cgrseg, CGRSegModel) and without_head.prototype_weights is None
    for name, attention in without_head.rectangular.items():
        torch.testing.assert_close(attention, expected.rectangular[f"cgrseg.{name}"])


def test_models_whose_code_was_loaded_from_elsewhere(model, pixel_values):
    """As with `trust_remote_code=True`: the same classes by name, but others."""
    spec = importlib.util.spec_from_file_location("cgrseg_hf.model.modeling_elsewhere", inspect.getfile(CGRSegModel))
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    other = elsewhere.CGRSegForSemanticSegmentation(model.config).eval()
    other.load_state_dict(model.state_dict())
    assert not any(isinstance(module, RectangularSelfCalibrationAttention) for module in other.modules())
    expected, recorded = record_attention(model, pixel_values), record_attention(other, pixel_values)
    torch.testing.assert_close(recorded.rectangular, expected.rectangular)
    torch.testing.assert_close(recorded.prototype_weights, expected.prototype_weights)


def test_models_without_these_parts(tiny_config, model, pixel_values):
    switches = {"use_rcm_in_pyramid_context": False, "use_rcm_in_reconstruction": False}
    bare = CGRSegForSemanticSegmentation(tiny_config(**switches)).eval()
    recorded = record_attention(bare, pixel_values)
    assert recorded.rectangular == {} and recorded.prototype_weights.shape == (2, 5)
    with pytest.raises(ValueError, match="built without it"):
        draw_rectangular_attention(Image.new("RGB", (211, 97)), recorded)
    barer = CGRSegForSemanticSegmentation(tiny_config(**switches, use_dynamic_prototype_head=False)).eval()
    with pytest.raises(ValueError, match="neither rectangular"):
        record_attention(barer, pixel_values)
    with pytest.raises(ValueError, match=r"CGRSegForInference.*optimize_for_inference"):
        record_attention(model.optimize_for_inference(), pixel_values)


def test_maps_lie_over_the_image_without_its_padding(model, pixel_values):
    recorded = record_attention(model, pixel_values, image_sizes=torch.tensor([[97, 211], [64, 96]]))
    assert recorded.padded_size == (128, 224)
    attention = recorded.rectangular[NAMES[-1]]
    values = recorded.map_of(NAMES[-1], index=1)
    assert values.shape == (64, 96)
    # A map of stride 8 has 8 rows and 12 columns over an image of 64×96; its values lie at their centres.
    centers = (values[3::8, 3::8] + values[4::8, 4::8] + values[3::8, 4::8] + values[4::8, 3::8]) / 4
    inside = attention[1, :, :8, :12].mean(dim=0).numpy()
    np.testing.assert_allclose(centers[1:-1, 1:-1], inside[1:-1, 1:-1], atol=0.05)
    assert np.corrcoef(centers.ravel(), inside.ravel())[0, 1] > 0.99
    channel = recorded.map_of(NAMES[-1], index=0, channel=3)
    assert channel.shape == (97, 211) and np.abs(channel - recorded.map_of(NAMES[-1])).max() > 0.1
    with pytest.raises(ValueError, match=r"'head'.*pyramid_context\.blocks\.0"):
        recorded.map_of("head")
    with pytest.raises(ValueError, match=r"no image 2.*has 2"):
        recorded.map_of(NAMES[0], index=2)
    with pytest.raises(ValueError, match=r"no channel 16.*has 16"):
        recorded.map_of(NAMES[-1], channel=16)


def test_a_heat_map_for_each_module(model, pixel_values):
    recorded = record_attention(model, pixel_values, average_channels=True)
    every = record_attention(model, pixel_values)
    torch.testing.assert_close(recorded.rectangular[NAMES[0]], every.rectangular[NAMES[0]].mean(dim=1, keepdim=True))
    photo = Image.new("RGB", (844, 388), (200, 40, 40))
    sheet = draw_rectangular_attention(photo, recorded)
    one = draw_rectangular_attention(photo, every, names=NAMES[-1:], max_side=400)
    assert 480 < sheet.width < 4 * 700 and sheet.height > 2 * 220
    assert 400 < one.width < 600 and 184 < one.height < 250
    other_channel = draw_rectangular_attention(photo, every, names=NAMES[-1:], channel=1, max_side=400)
    assert other_channel.tobytes() != one.tobytes()


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.48, 0.5), (0.44, 0.54)), ((0, 0.02), (0, 0.1)), ((0.2, 0.9), (0.2, 0.9)), ((1.0, 1.0), (0.9, 1))],
)
def test_the_bar_does_not_stretch_small_differences(values, expected):
    assert _find_range(np.array(values)) == pytest.approx(expected)
