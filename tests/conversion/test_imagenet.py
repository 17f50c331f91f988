# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""ImageNet weights into the backbone: the authors' files and timm's, against timm's own features."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, EfficientFormerV2Backbone, EfficientFormerV2Config
from cgrseg_hf.conversion import load_imagenet_backbone, to_official
from cgrseg_hf.model.configuration_cgrseg import PRESETS

TIMM_OF_PRESET = {"xs": "s0", "t": "s1", "b": "s2", "l": "l"}


def timm_model(size: str, **settings) -> torch.nn.Module:
    """A classifier of timm's whose every weight counts, bias tables and statistics included."""
    torch.manual_seed(0)
    model = timm.create_model(f"efficientformerv2_{size}", **settings).eval()
    for name, values in model.state_dict().items():
        if name.endswith("attention_biases"):
            values.normal_()
        elif name.endswith("gamma"):
            values.uniform_(0.05, 0.2)
        elif name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            values.normal_(std=0.1)
    return model


@pytest.mark.parametrize("preset", TIMM_OF_PRESET)
def test_features_equal_timms(preset: str):
    reference = timm_model(TIMM_OF_PRESET[preset])
    config = EfficientFormerV2Config(
        **{**PRESETS[preset]["backbone_config"], "image_size": 224},
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    backbone = EfficientFormerV2Backbone(config).eval()
    report = load_imagenet_backbone(backbone, reference.state_dict())
    assert (report.naming, report.position_bias) == ("timm", "copied")
    assert all(name.startswith(("norm.", "head")) for name in report.unused)
    pixel_values = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = reference.forward_intermediates(pixel_values, intermediates_only=True)
        features = backbone(pixel_values).feature_maps
    for ours, theirs in zip(features, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.fixture
def model() -> CGRSegForSemanticSegmentation:
    return CGRSegForSemanticSegmentation(CGRSegConfig.from_preset("xs", num_labels=2))


def test_biases_are_resized_or_left_at_zero(model):
    weights = timm_model("s0").state_dict()
    bias = model.cgrseg.backbone.stages[3].layers[-1].attention.position_bias
    theirs = weights["stages.3.blocks.3.token_mixer.attention_biases"]

    assert load_imagenet_backbone(model, weights).position_bias == "resized"
    table = bias.table.view(8, 16, 16)
    # The four corners are the distances 0 and the largest, along each axis.
    torch.testing.assert_close(table[:, ::15, ::15], theirs.view(8, 7, 7)[:, ::6, ::6])
    assert torch.equal(bias.imagenet_table, theirs)

    assert load_imagenet_backbone(model, weights, position_bias="zero").position_bias == "zero"
    assert not bias.table.any()


def test_files_and_folders(model, tmp_path):
    weights = timm_model("s0").state_dict()
    save_file(weights, tmp_path / "model.safetensors")
    for source in (tmp_path, tmp_path / "model.safetensors", str(tmp_path / "model.safetensors")):
        assert str(source) in str(load_imagenet_backbone(model, source))
    assert torch.equal(model.cgrseg.backbone.stem.first.convolution.weight, weights["stem.conv1.conv.weight"])


def test_the_authors_files(model, tmp_path):
    other = CGRSegForSemanticSegmentation(model.config)
    official = {name: tensor for name, tensor in to_official(other).items() if name.startswith("backbone.")}
    weights = {name.removeprefix("backbone."): tensor for name, tensor in official.items() if not name.endswith("_seg")}
    weights |= {"norm.weight": torch.zeros(176), "head.bias": torch.zeros(1000), "dist_head.bias": torch.zeros(1000)}
    torch.save({"model": weights}, tmp_path / "eformer_s0_450.pth")
    report = load_imagenet_backbone(model, tmp_path / "eformer_s0_450.pth")
    assert report.naming == "official"
    assert {"norm.weight", "head.bias", "dist_head.bias"} <= set(report.unused)
    assert torch.equal(
        model.cgrseg.backbone.stages[3].layers[0].mlp.expansion.convolution.weight,
        other.cgrseg.backbone.stages[3].layers[0].mlp.expansion.convolution.weight,
    )


def test_another_size_is_refused(model):
    with pytest.raises(ValueError, match="hidden_sizes and depths") as error:
        load_imagenet_backbone(model, timm_model("s1").state_dict())
    assert all(words in str(error.value) for words in ("Missing (", "Left over (", "Different ("))


@pytest.mark.parametrize("name", ["efficientformerv2_s0", "hf-hub:timm/efficientformerv2_s0.snap_dist_in1k"])
def test_every_spelling_of_timms_names_leads_to_its_repo(model, name: str, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"timm/efficientformerv2_s0\.snap_dist_in1k.*--backbone-weights none"):
        load_imagenet_backbone(model, name)


def test_wrong_arguments_are_named(model):
    with pytest.raises(ValueError, match="position_bias='crop'"):
        load_imagenet_backbone(model, {}, position_bias="crop")
    with pytest.raises(ValueError, match="Linear has no EfficientFormerV2Backbone"):
        load_imagenet_backbone(torch.nn.Linear(1, 1), {})
