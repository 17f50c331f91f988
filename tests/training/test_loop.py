# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Whole trainings: what they write, and that dividing a batch changes nothing."""

import csv
import json
import re
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training_runs import TWO_PROCESSES
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, SegformerConfig

from cgrseg_hf import CGRSegForSemanticSegmentation
from cgrseg_hf.conversion import to_official
from cgrseg_hf.data import get_description
from cgrseg_hf.training import TrainingStoppedError, load_recipe, recipe_names, train
from cgrseg_hf.training.ablation import run_ablation
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


def test_a_model_that_does_not_exist_names_the_presets(tiny_training):
    with pytest.raises(ValueError, match=r"no folder 'xxl'.*xs, t, b, l are known too"):
        train(tiny_training.replace(model="xxl"))


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
    assert (checkpoint / "random_state_1.pt").exists()  # there were two
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

    def overflow(run, *arguments):
        """As gradients do behind a loss that is finite."""
        readout = take_step(run, *arguments)
        next(run.model.parameters()).data.fill_(torch.inf)
        return readout

    monkeypatch.setattr(TrainingRun, "take_step", overflow)
    with pytest.raises(TrainingStoppedError, match=r"weights after step 1 are not finite.*no good checkpoint"):
        train(tiny_training.replace(max_steps=1))
    assert not list(Path(tiny_training.output).glob("checkpoints/*"))


def test_errors_that_nobody_outside_can_mend_stay_as_they_are(tiny_training, monkeypatch):
    error = RuntimeError("odd")

    def fail(*arguments):
        raise error

    monkeypatch.setattr(TrainingRun, "take_step", fail)
    with pytest.raises(RuntimeError) as raised:
        train(tiny_training)
    assert raised.value is error


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


def test_an_image_that_cannot_be_read_is_named(tiny_training, small_data, tmp_path):
    broken = shutil.copytree(small_data, tmp_path / "broken")
    photo = sorted((broken / "train" / "images").iterdir())[-1]
    photo.write_bytes(photo.read_bytes()[:200])
    with pytest.raises(ValueError, match=photo.name) as error:
        train(tiny_training.replace(data=str(broken), num_workers=1))
    assert "DataLoader" not in str(error.value)


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


def test_class_names_from_a_file(tiny_training, small_data, tmp_path):
    data = shutil.copytree(small_data, tmp_path / "nameless")
    names = (data / "id2label.json").rename(tmp_path / "names.json")
    config = tiny_training.replace(data=str(data), max_steps=1)
    with pytest.raises(ValueError, match="names of the classes"):
        train(config)
    result = train(config.replace(class_names=str(names)))
    assert AutoModelForSemanticSegmentation.from_pretrained(result.model).config.num_labels == 171


def test_a_batch_that_cannot_be_divided(tiny_training):
    with pytest.raises(ValueError, match="multiple of 3"):
        train(tiny_training.replace(gradient_accumulation_steps=3))


def test_rare_classes_weigh_more(tmp_path, monkeypatch):
    from cgrseg_hf.data import load_data
    from cgrseg_hf.training.models import find_class_weights

    for kind in ("images", "annotations"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    labels = np.zeros((10, 10), dtype=np.uint8)
    labels[0] = 1
    labels[1] = 255
    Image.fromarray(labels).save(tmp_path / "train" / "annotations" / "a.png")
    Image.new("RGB", (10, 10)).save(tmp_path / "train" / "images" / "a.png")
    data = load_data(tmp_path, "train", id2label={0: "road", 1: "pole", 2: "nowhere"})
    weights = find_class_weights(data, 0.5)
    assert weights[1] / weights[0] == pytest.approx((80 / 10) ** 0.5)
    assert (80 * weights[0] + 10 * weights[1]) / 90 == pytest.approx(1)
    assert weights[2] == weights[1]
    assert find_class_weights(data, 0) is None
    monkeypatch.setattr("cgrseg_hf.training.models._MAPS_TO_COUNT", 1)
    Image.fromarray(labels).save(tmp_path / "train" / "annotations" / "b.png")
    Image.new("RGB", (10, 10)).save(tmp_path / "train" / "images" / "b.png")
    torch.testing.assert_close(find_class_weights(load_data(tmp_path, "train", id2label=data.id2label), 0.5), weights)
    Image.fromarray(np.full_like(labels, 255)).save(tmp_path / "train" / "annotations" / "a.png")
    (tmp_path / "train" / "images" / "b.png").unlink()
    with pytest.raises(ValueError, match="No pixel is labelled in"):
        find_class_weights(data, 0.5)


def test_another_model_trains_and_is_evaluated(tiny_training, tmp_path):
    SegformerConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8).save_pretrained(
        tmp_path / "segformer"
    )
    result = train(tiny_training.replace(model=str(tmp_path / "segformer"), validation_split="validation", max_steps=2))
    model = AutoModelForSemanticSegmentation.from_pretrained(result.model)
    assert model.config.model_type == "segformer"
    assert model.config.num_labels == 171
    assert result.best_mean_iou is not None


# Where each data set keeps images and annotations, and which ids its files hold.
LAYOUTS = {
    "ade20k": ("images/training", "annotations/training", lambda ids: ids % 151),
    "coco-stuff": ("images/train2017", "annotations/train2017", lambda ids: ids),
    "pascal-context": ("JPEGImages", "SegmentationClassContext", lambda ids: ids % 60),
    "camvid": ("train/images", "train/annotations", lambda ids: ids % 12),
}


def train_recipe(name: str, small_data: Path, folder: Path) -> None:
    """Two steps of a recipe as it is, but for small crops of a few photos, laid out as its data set is."""
    images, annotations, to_ids = next(layout for data, layout in LAYOUTS.items() if name.endswith(data))
    for place in (images, annotations):
        (folder / place).mkdir(parents=True)
    photos = sorted((small_data / "train" / "images").iterdir())[:4]
    for photo in photos:
        shutil.copy(photo, folder / images)
        ids = np.asarray(Image.open(small_data / "train" / "annotations" / f"{photo.stem}.png"))
        ids = np.where(ids == 255, 0, to_ids(ids)).astype(np.uint8)
        suffix = "_labelTrainIds" if name.endswith("coco-stuff") else ""
        Image.fromarray(ids).save(folder / annotations / f"{photo.stem}{suffix}.png")
    if name.endswith("pascal-context"):
        (folder / "ImageSets/SegmentationContext").mkdir(parents=True)
        (folder / "ImageSets/SegmentationContext/train.txt").write_text("".join(f"{p.stem}\n" for p in photos))
    config = load_recipe(name).replace(
        data=str(folder),
        crop_size=(64, 64),
        batch_size=2,
        max_steps=2,
        label_ids="void-first" if name.endswith("camvid") else "auto",
        num_workers=0,
        validation_split=None,
        trackers="none",
        output=str(folder / "run"),
        logging_steps=1,
        precision="no",
    )
    result = train(config)
    assert result.step == 2
    assert all(np.isfinite(losses(result.output)))
    model = AutoModelForSemanticSegmentation.from_pretrained(result.model)
    assert model.config.id2label == get_description(config.dataset).id2label


@pytest.mark.parametrize("name", [name for name in recipe_names() if "-t-" in name])
def test_recipes_start(name, small_data, tmp_path):
    train_recipe(name, small_data, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in recipe_names() if "-b-" in name or "-l-" in name])
def test_larger_recipes_start(name, small_data, tmp_path):
    train_recipe(name, small_data, tmp_path)


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


def test_an_ablation_that_is_told_to_stop_tabulates_what_it_has(tiny_training, monkeypatch):
    take_step = TrainingRun.take_step

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return take_step(*arguments)

    monkeypatch.setattr(TrainingRun, "take_step", interrupted)
    config = tiny_training.replace(validation_split="validation")
    (stopped,) = run_ablation(config, ["baseline", "all"])
    assert (stopped.name, stopped.mean_iou, stopped.stopped_by) == ("baseline", None, signal.SIGTERM)
    (row,) = csv.DictReader((Path(config.output) / "ablation.csv").open())
    assert (row["variant"], row["mean_iou"]) == ("baseline", "")
