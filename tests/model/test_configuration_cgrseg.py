# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Configurations: presets, round trips, backbones, and errors that help."""

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import BertConfig, ConvNextV2Config, ResNetConfig, TimmBackboneConfig

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, EfficientFormerV2Config


@pytest.mark.parametrize(("preset", "millions"), [("t", 9.364647), ("b", 18.109975), ("l", 35.677703)])
def test_presets_have_the_papers_sizes(preset: str, millions: float):
    model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(preset))
    assert sum(parameter.numel() for parameter in model.parameters()) == round(millions * 1e6)


def test_preset_overrides_reach_both_levels():
    config = CGRSegConfig.from_preset(
        "b", num_labels=19, num_pyramid_blocks=6, backbone_config={"image_size": 224, "drop_path_rate": 0.0}
    )
    assert (config.num_labels, config.num_pyramid_blocks, config.decoder_hidden_size) == (19, 6, 256)
    assert (config.backbone_config.image_size, config.backbone_config.drop_path_rate) == (224, 0.0)
    assert config.backbone_config.depths == [4, 4, 12, 8]
    for backbone_config in (None, {"model_type": "efficientformerv2", "drop_path_rate": 0.3}):
        config = CGRSegConfig.from_preset("b", backbone_config=backbone_config)
        assert config.backbone_config.depths == [4, 4, 12, 8]


def test_num_labels_follow_id2label():
    config = CGRSegConfig.from_preset("xs", id2label={0: "road", 1: "sky", 2: "tree"})
    assert config.num_labels == 3
    assert config.label2id == {"road": 0, "sky": 1, "tree": 2}


def test_round_trip_through_a_folder(tmp_path):
    config = CGRSegConfig.from_preset("xs", num_labels=3, strip_kernel_size=7, use_rcm_in_reconstruction=False)
    config.save_pretrained(tmp_path)
    assert CGRSegConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


@pytest.mark.parametrize(
    ("backbone_config", "out_indices"),
    [
        (ConvNextV2Config(), [2, 3, 4]),
        (ResNetConfig(out_features=["stage1", "stage2", "stage3"]), [1, 2, 3]),
        (TimmBackboneConfig(backbone="resnet18"), [-3, -2, -1]),
        ({"model_type": "convnextv2", "depths": [1, 1, 1, 1]}, [2, 3, 4]),
        (None, [2, 3, 4]),
    ],
)
def test_three_feature_maps_of_any_backbone(backbone_config, out_indices):
    assert CGRSegConfig(backbone_config=backbone_config).backbone_config.out_indices == out_indices


def test_configurations_that_are_of_no_backbone():
    with pytest.raises(ValueError, match="backbone_config is a BertConfig, which has no out_indices"):
        CGRSegConfig(backbone_config=BertConfig())


def test_the_callers_backbone_config_is_left_alone():
    backbone_config = ConvNextV2Config()
    CGRSegConfig(backbone_config=backbone_config)
    assert backbone_config.out_features == ["stage4"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strip_kernel_size": 10}, ["strip_kernel_size=10", "use 11"]),
        ({"square_kernel_size": -1}, ["square_kernel_size=-1", "odd"]),
        ({"num_pyramid_blocks": 0}, ["num_pyramid_blocks=0", "1 or more"]),
        ({"classifier_dropout_prob": 1.5}, ["classifier_dropout_prob=1.5"]),
        ({"loss_normalization": "mean"}, ["loss_normalization", "'valid'"]),
        ({"decoder_hidden_size": "wide"}, ["decoder_hidden_size", "int"]),
        ({"mlp_ratio": 0}, ["mlp_ratio=0"]),
        ({"num_labels": 300}, ["semantic_loss_ignore_index=255", "num_labels=300", "-100"]),
        ({"backbone_config": {"depths": [1, 1]}}, ["depths=[1, 1]", "four"]),
        ({"backbone_config": {"mlp_expansion_ratios": [4, 4, None, 4]}}, ["mlp_expansion_ratios=None", "stage 3"]),
        ({"backbone_config": {"depths": [1, 2, -3, 4]}}, ["depths=[1, 2, -3, 4]", "1 or more"]),
        ({"backbone_config": {"hidden_sizes": [33, 48, 96, 176]}}, ["hidden_sizes[0]=33", "even"]),
        ({"backbone_config": {"hidden_sizes": [32, 0, 96, 176]}}, ["hidden_sizes=[32, 0, 96, 176]", "1 or more"]),
        ({"backbone_config": {"hidden_sizes": [32, 48, 96]}}, ["hidden_sizes=[32, 48, 96]", "four"]),
        ({"backbone_config": {"image_size": 500}}, ["image_size=500", "multiple of 32"]),
        ({"backbone_config": {"num_attention_blocks": 9}}, ["num_attention_blocks=9", "0 to"]),
        ({"backbone_config": {"mlp_expansion_ratios": [4, 4, [4, 3], 4]}}, ["mlp_expansion_ratios", "stage 3"]),
        ({"backbone_config": {"mlp_expansion_ratios": [4, 4]}}, ["mlp_expansion_ratios=[[4, 4], [4, 4]]", "four"]),
        ({"backbone_config": {"drop_path_rate": -0.1}}, ["drop_path_rate=-0.1"]),
    ],
)
def test_wrong_values_name_field_value_and_remedy(settings: dict, words: list[str]):
    with pytest.raises((ValueError, StrictDataclassError)) as error:
        CGRSegConfig.from_preset("xs", **settings)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    ("preset", "settings", "words"),
    [
        ("large", {}, ["preset='large'", "'l'"]),
        ("t", {"strip_kernel": 11}, ["strip_kernel=11", "did you mean 'strip_kernel_size'"]),
        ("t", {"depths": [1, 1, 1, 1]}, ["backbone_config={'depths': [1, 1, 1, 1]}"]),
        ("t", {"backbone_config": {"depth": 3}}, ["did you mean 'depths'"]),
        ("t", {"backbone_config": {"model_type": "convnextv3"}}, ["'convnextv3'", "did you mean"]),
    ],
)
def test_unknown_names_are_refused(preset: str, settings: dict, words: list[str]):
    with pytest.raises(ValueError) as error:
        CGRSegConfig.from_preset(preset, **settings)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_one_expansion_ratio_serves_all_blocks():
    config = EfficientFormerV2Config(depths=[1, 2, 3, 4], mlp_expansion_ratios=2)
    assert config.mlp_expansion_ratios == [[2], [2, 2], [2, 2, 2], [2, 2, 2, 2]]
