# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Recipes and their values."""

import json

import pytest

from cgrseg_hf.training import TrainingConfig, load_recipe

# Of the paper's recipes.
DATASETS = {"ade20k": "ade20k", "coco-stuff": "coco-stuff-164k", "pascal-context": "pascal-context-59"}


def test_recipes_of_the_paper():
    for size in "tbl":
        for data, dataset in DATASETS.items():
            recipe = load_recipe(f"cgrseg-{size}-{data}")
            assert (recipe.model, recipe.dataset) == (size, dataset)
            assert (recipe.max_steps, recipe.batch_size, recipe.crop_size) == (160_000, 16, (512, 512))
            assert (recipe.learning_rate, recipe.weight_decay, recipe.betas) == (1.2e-4, 0.01, (0.9, 0.999))
            assert (recipe.warmup_steps, recipe.warmup_factor, recipe.loss_normalization) == (1500, 1e-6, "all")


def test_a_recipe_of_ones_own(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: cgrseg-b-ade20k\nlearning_rate: 3.0e-4\ncrop_size: [256, 320]\n")
    recipe = load_recipe(file)
    assert (recipe.model, recipe.learning_rate, recipe.crop_size) == ("b", 3e-4, (256, 320))
    file.write_text("learning_rates: 1\n")
    with pytest.raises(ValueError, match="Did you mean learning_rate"):
        load_recipe(file)
    with pytest.raises(ValueError, match="Did you mean cgrseg-t-ade20k"):
        load_recipe("cgrseg-t-ade2k")


def test_what_a_run_writes_can_be_read_again(tmp_path):
    config = load_recipe("cgrseg-l-ade20k").replace(precision="no", epochs=3, model_settings={"id": [1, 2]})
    file = tmp_path / "training_config.json"
    file.write_text(json.dumps(config.to_dict()))
    assert load_recipe(file) == config


def test_values_as_yaml_reads_them(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("learning_rate: 1e-4\nprecision: no\nmax_grad_norm: 5\ncrop_size: 256\nvalidation_split: none\n")
    recipe = load_recipe(file)
    assert (recipe.learning_rate, recipe.precision, recipe.max_grad_norm) == (1e-4, "float32", 5.0)
    assert (recipe.crop_size, recipe.validation_split) == ((256, 256), None)
    for text, message in (
        ("a: [", "not YAML"),
        ("- 1", "list"),
        ("max_steps: many", "max_steps"),
        ("seed: .5", "seed"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_recipe(file)


def test_steps_take_the_place_of_epochs():
    assert load_recipe("finetune").epochs is not None
    assert load_recipe("finetune").replace(max_steps=5).epochs is None
    with pytest.raises(ValueError, match="one of them"):
        load_recipe("finetune").replace(max_steps=5, epochs=1)
    with pytest.raises(ValueError, match="streamed"):
        load_recipe("finetune").replace(streaming=True)


def test_model_settings_are_added():
    config = TrainingConfig(model_settings={"classifier_dropout_prob": 0.0})
    changed = config.replace(model_settings={"use_dynamic_prototype_head": False})
    assert changed.model_settings == {"classifier_dropout_prob": 0.0, "use_dynamic_prototype_head": False}


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0},
        {"scale_range": (2.0, 0.5)},
        {"ema_decay": 1.5},
        {"precision": "fp8"},
        {"crop_size": (1, 2, 3)},
        {"crop_size": (64.5, 64)},
        {"evaluation_limit": 0},
        {"max_grad_norm": -1},
        {"warmup_factor": -3},
        {"channels_last": "yes"},
    ],
)
def test_values_that_cannot_be(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        TrainingConfig(**values)
