# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Whole trainings: what they write, and that dividing a batch changes nothing."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers.training_runs import TWO_PROCESSES, find_workers
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from cgrseg_hf import CGRSegForSemanticSegmentation
from cgrseg_hf.conversion import to_official
from cgrseg_hf.data import get_description, load_data
from cgrseg_hf.training import TrainingStoppedError, load_recipe, recipe_names, train
from cgrseg_hf.training.ablation import run_ablation
from cgrseg_hf.training.inputs import find_class_weights
from cgrseg_hf.training.run import TrainingRun
from cgrseg_hf.utils.processes import make_accelerator

FRAME = {"shortest_edge": 80, "longest_edge": 160}


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_log(folder) if "loss" in entry]


def frozen(config, **values):
    """Neither batch statistics nor dropout: what is left depends on the batch as a whole alone."""
    settings = {"classifier_dropout_prob": 0.0}
    return config.replace(freeze_batch_norm=True, model_settings=settings, **values)


def test_a_training_leaves_the_best_and_the_last_model(tiny_training):
    config = tiny_training.replace(validation_split="validation", evaluation_steps=4, save_steps=3, keep_checkpoints=2)
    result = train(config)
    assert result.finished
    assert result.step == 8
    log = read_log(result.output)
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 9))
    scores = [entry["mean_iou"] for entry in log if "mean_iou" in entry]
    assert len(scores) == 2
    assert result.best_mean_iou == max(scores)
    assert [path.name for path in sorted((result.output / "checkpoints").iterdir())] == [
        "step-00000006",
        "step-00000008",
    ]
    for folder in (result.model, result.output / "last", result.output / "checkpoints" / "step-00000008"):
        model = AutoModelForSemanticSegmentation.from_pretrained(folder)
        assert model.config.id2label[0] == "person"
        processor = AutoImageProcessor.from_pretrained(folder)
        assert dict(processor.size) == FRAME
    with pytest.raises(ValueError, match="--resume"):  # it would overwrite the run
        train(config)


def test_the_loss_falls(tiny_training):
    result = train(tiny_training.replace(max_steps=40, learning_rate=3e-3))
    values = losses(result.output)
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])


def test_a_warm_up_too_long_for_the_run_is_shortened(tiny_training, capsys):
    result = train(tiny_training.replace(max_steps=12, warmup_steps=100))
    assert "too few for warmup_steps=100: the warm-up takes 1" in capsys.readouterr().out
    rates = [entry["learning_rate"] for entry in read_log(result.output)]
    assert max(rates) > 0.8 * tiny_training.learning_rate


def test_moving_average_is_what_is_kept(tiny_training):
    plain = train(tiny_training)
    averaged = train(tiny_training.replace(ema_decay=0.9, output=tiny_training.output + "-averaged"))
    at_end = load_file(averaged.output / "checkpoints" / "step-00000008" / "model.safetensors")
    kept = load_file(averaged.model / "model.safetensors")
    trained = load_file(plain.model / "model.safetensors")
    name = "head.classifier.weight"
    assert torch.equal(at_end[name], trained[name])  # averaging does not touch the training
    assert not torch.equal(kept[name], trained[name])
    assert (kept[name] - trained[name]).abs().max() < 0.01


def test_accumulated_parts_are_the_whole_batch(tiny_training, small_data):
    config = frozen(tiny_training, max_steps=3, loss_normalization="valid", max_class_share=1.0)
    whole = train(config)
    parts = train(config.replace(gradient_accumulation_steps=4, output=config.output + "-parts"))
    np.testing.assert_allclose(losses(parts.output), losses(whole.output), atol=1e-6, rtol=0)
    one, other = (load_file(result.model / "model.safetensors") for result in (whole, parts))
    for name in one:
        torch.testing.assert_close(one[name], other[name], atol=1e-6, rtol=0, msg=name)


def test_two_processes_are_one_with_their_whole_batch(tiny_training, start_command):
    config = frozen(tiny_training, loss_normalization="valid")
    alone = start_command(config.replace(output=config.output + "-alone"))
    together = start_command(config.replace(output=config.output + "-together"), launcher=TWO_PROCESSES)
    for process in (alone, together):
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
    (checkpoint,) = Path(config.output + "-together", "checkpoints").iterdir()
    assert (checkpoint / "random_states_1.pkl").exists()  # there were two
    one, other = (losses(Path(config.output + end)) for end in ("-alone", "-together"))
    assert len(one) == 8
    np.testing.assert_allclose(other, one, atol=1e-5, rtol=0)


def test_a_loss_that_is_not_finite_names_the_images_and_a_checkpoint_that_is_sound(tiny_training):
    config = tiny_training.replace(
        max_steps=300, save_steps=1, learning_rate=1e20, warmup_steps=100, warmup_factor=1e-22
    )
    with pytest.raises(TrainingStoppedError, match=r"\.jpg.*The last good checkpoint is .*step-\d+") as error:
        train(config)
    (checkpoint,) = set(re.findall(r"\S+/step-\d+", str(error.value)))
    other = train(tiny_training.replace(model=checkpoint, max_steps=2, output=config.output + "-other"))
    assert all(np.isfinite(losses(other.output)))


def test_weights_that_are_not_finite_are_not_kept(tiny_training, monkeypatch):
    take_step = TrainingRun.take_step

    def overflow(run, parts, wish_to_stop):
        """Spoil the weights as gradients do behind a finite loss."""
        take_step(run, parts, wish_to_stop)
        next(run.model.parameters()).data.fill_(torch.inf)

    monkeypatch.setattr(TrainingRun, "take_step", overflow)
    with pytest.raises(TrainingStoppedError, match=r"weights after step 1 are not finite.*no good checkpoint"):
        train(tiny_training.replace(max_steps=1))
    assert not list(Path(tiny_training.output).glob("checkpoints/*"))


def test_errors_of_the_code_keep_their_traceback_and_end_the_workers(tiny_training, monkeypatch):
    monkeypatch.setattr(TrainingRun, "take_step", lambda *_, **__: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size") as error:
        train(tiny_training.replace(num_workers=1))
    assert error.value.__traceback__ and not find_workers(psutil.Process())


@pytest.mark.long
def test_what_trackers_show(tiny_training, monkeypatch):
    with pytest.raises(ValueError, match="tracker nothere is not installed: pip install nothere"):
        train(tiny_training.replace(trackers="nothere"))
    config = tiny_training.replace(trackers="tensorboard", max_steps=2)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorboard", None)
        train(config.replace(output=config.output + "-without"))
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    output = train(config).output
    (events,) = output.rglob("events.out.tfevents.*.0")
    shown = accumulator.EventAccumulator(str(events)).Reload()
    assert [event.value for event in shown.Scalars("loss")] == pytest.approx(losses(output))


def test_processes_that_do_not_know_of_each_other(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="2 processes were started, but they form a group of 1: start them with"):
        make_accelerator()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"validation_split": "test"}, r"no split 'test'.* To train without evaluating: --validation-split none"),
        ({"model_settings": {"mlp_rate": 2}}, "configuration of .* has no mlp_rate"),
        ({"gradient_accumulation_steps": 3}, "multiple of 3"),
    ],
)
def test_settings_that_do_not_fit_data_or_model(tiny_training, values, message):
    with pytest.raises(ValueError, match=message):
        train(tiny_training.replace(**values))


def test_backbone_weights_are_loaded_and_said(tiny_training, tiny_config, tmp_path, capsys):
    state_dict = to_official(CGRSegForSemanticSegmentation(tiny_config(num_labels=171)))
    weights = {name.removeprefix("backbone."): one for name, one in state_dict.items() if name.startswith("backbone.")}
    torch.save(weights, tmp_path / "backbone.pth")
    result = train(
        tiny_training.replace(backbone_weights=str(tmp_path / "backbone.pth"), max_steps=1, learning_rate=1e-9)
    )
    assert "Backbone: " in capsys.readouterr().out
    name = "backbone.patch_embed.0.weight"
    trained = AutoModelForSemanticSegmentation.from_pretrained(result.model)
    torch.testing.assert_close(to_official(trained)[name], state_dict[name])


def test_data_without_splits_and_with_empty_label_maps_are_warned_of(tiny_training, small_data, tmp_path, capsys):
    data = shutil.copytree(small_data / "train", tmp_path / "data")
    shutil.copy(small_data / "id2label.json", data)
    annotation = next((data / "annotations").iterdir())
    with Image.open(annotation) as image:
        Image.new("L", image.size, 255).save(annotation)
    train(tiny_training.replace(data=str(data), validation_split="validation", max_steps=1))
    printed = capsys.readouterr().out
    assert re.search(rf"Warning: .*no labelled pixel.*{annotation.name}", printed)
    assert "Warning: the source has no splits" in printed


def test_rare_classes_weigh_more(tmp_path):
    labels = np.zeros((10, 10), dtype=np.uint8)
    labels[0], labels[1] = 1, 255
    for kind, values in (("images", np.zeros((10, 10, 3), np.uint8)), ("annotations", labels)):
        (tmp_path / "train" / kind).mkdir(parents=True)
        Image.fromarray(values).save(tmp_path / "train" / kind / "a.png")
    data = load_data(tmp_path, "train", id2label={0: "road", 1: "pole", 2: "nowhere"})
    weights = find_class_weights(data, 0.5)
    assert weights[1] / weights[0] == pytest.approx((80 / 10) ** 0.5)
    assert (80 * weights[0] + 10 * weights[1]) / 90 == pytest.approx(1)
    assert weights[2] == weights[1]
    assert find_class_weights(data, 0) is None
    Image.fromarray(np.full_like(labels, 255)).save(tmp_path / "train" / "annotations" / "a.png")
    with pytest.raises(ValueError, match="No pixel is labelled"):
        find_class_weights(data, 0.5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if "-t-" in name else pytest.mark.long)
        for name in recipe_names()
        if name.startswith("cgrseg")
    ],
)
def test_recipes_start(name, small_data, tmp_path):
    """Two steps of a recipe as it is, but for small crops of a few photos whose ids all data sets have."""
    data = shutil.copytree(small_data / "train", tmp_path / "data" / "train").parent
    for file in (data / "train" / "annotations").iterdir():
        Image.fromarray(np.asarray(Image.open(file)) % 11).save(file)
    config = load_recipe(name).replace(
        data=str(data),
        label_ids="void-first" if name.endswith("camvid") else "auto",
        crop_size=(64, 64),
        batch_size=2,
        max_steps=2,
        num_workers=0,
        validation_split=None,
        trackers="none",
        output=str(tmp_path / "run"),
        logging_steps=1,
        precision="no",
    )
    result = train(config)
    assert all(np.isfinite(losses(result.output)))
    model = AutoModelForSemanticSegmentation.from_pretrained(result.model)
    assert model.config.id2label == get_description(config.dataset).id2label


def test_fine_tuning_the_shipped_model(small_data, tmp_path):
    config = load_recipe("finetune").replace(
        model="shipped",
        backbone_weights=None,
        data=str(small_data),
        crop_size=(64, 64),
        resize_to=(160, 80),
        epochs=0.5,
        batch_size=2,
        num_workers=0,
        trackers="none",
        output=str(tmp_path),
    )
    result = train(config)
    assert result.step == 2  # half of 7 photos, two a step
    model = AutoModelForSemanticSegmentation.from_pretrained(result.model)
    assert model.config.num_labels == 171
    assert AutoImageProcessor.from_pretrained(result.model).num_labels == 171


def test_an_ablation_is_tabulated(tiny_training, capsys):
    config = tiny_training.replace(validation_split="validation", max_steps=1)
    trained = run_ablation(config, ["baseline", "all"])
    baseline, whole = trained
    assert "Variant 2 of 2: all" in capsys.readouterr().out
    assert baseline.parameters < whole.parameters
    rows = list(csv.DictReader((Path(config.output) / "ablation.csv").open()))
    assert [row["variant"] for row in rows] == ["baseline", "all"]
    assert [float(row["mean_iou"]) for row in rows] == [baseline.mean_iou, whole.mean_iou]
    kept = AutoModelForSemanticSegmentation.from_pretrained(baseline.folder / "best")
    assert not kept.config.use_dynamic_prototype_head
    with pytest.raises(ValueError, match="variants are baseline"):
        run_ablation(config, ["head-only"])
    with pytest.raises(ValueError, match="--validation-split"):
        run_ablation(config.replace(validation_split=None))
