# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Cards of trained models, from what was measured."""

import dataclasses
import re

import numpy as np
import pytest

from cgrseg_hf.hub.model_card import FACTS_HINT, CardFacts, make_model_card, read_facts, write_card

FACTS = CardFacts(
    name="A model",
    summary="It segments.",
    dataset="Two classes",
    dataset_id="two-classes",
    license="mit",
    uses="Tests alone.",
    training="Not at all.",
    command="cgrseg train --data two",
    evaluation="cgrseg evaluate --data two",
    limits=["Everything."],
)
REPORT = {
    "data": {"split": "test"},
    "metrics": {"mean_iou": 0.5, "overall_accuracy": 0.75, "mean_accuracy": 0.6},
    "classes": [{"name": "ground|floor", "iou": 0.5, "accuracy": None, "share": 1.0}],
    "protocol": {"description": "whole image"},
    "num_images": 3,
    "versions": {"torch": "2"},
}
LOG = [{"step": 1, "loss": 0.5}, {"step": 1, "mean_iou": 0.5, "overall_accuracy": 0.75}]
SIZE = {"shortest_edge": 512, "longest_edge": 2048}


@pytest.mark.parametrize("comparison", ["", "Others are worse."])
def test_card(comparison):
    card = make_model_card(dataclasses.replace(FACTS, comparison=comparison), REPORT, LOG, 1234567, SIZE)
    assert card.data.eval_results[0].metric_value == 0.5
    assert card.data.eval_results[0].dataset_split == "test"
    assert "Two classes, test split, 3 images, whole image; measured with cgrseg_hf." in card.text
    for text in (
        "1,234,567 parameters",
        "a shorter side of 512 pixels",
        "| ground\\|floor | 50.0 | – | 100.00 |",
        "| **mean IoU** | **50.00** | | |",
        comparison,
    ):
        assert text in card.text
    assert "```bash\ncgrseg evaluate --data two\n```\n\n" in card.text
    assert "\n\n\n" not in card.text  # no empty gaps
    assert "\n\n## Training\n" in card.text


def test_card_of_another_architecture():
    card = make_model_card(FACTS, {**REPORT, "precision": "bfloat16"}, LOG, 1, SIZE, model_type="segformer")
    assert card.data.tags[0] == "segformer" and "whole image, bfloat16; measured" in card.text
    assert "CGRSeg" not in card.text and "Citation" not in card.text
    assert "```python\nfrom transformers import pipeline\n" in card.text and "\n\n\n" not in card.text


def test_a_card_that_people_changed_stays(tmp_path):
    path, card = tmp_path / "README.md", make_model_card(FACTS, REPORT, LOG, 1, SIZE)
    write_card(card, path)
    write_card(make_model_card(FACTS, REPORT, [], 1, SIZE), path)  # as it was written
    for text in (path.read_text().replace("It segments.", "It segments well."), "# Mine\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="--overwrite"):
            write_card(card, path)
        assert path.read_text() == text
    write_card(card, path, overwrite=True)
    assert "Tests alone." in path.read_text()


def test_fixed_size():
    card = make_model_card(FACTS, REPORT, LOG, 1, {"height": 64, "width": 96})
    assert "64×96 pixels (height × width)" in card.text


def test_figures_of_the_paper_stand_apart():
    facts = dataclasses.replace(FACTS, paper_checkpoint="cgrseg-t-ade20k")
    card = make_model_card(facts, REPORT, LOG, 9364647, SIZE)
    assert "| | measured here | as the paper reports it |" in card.text
    assert "| mean IoU, % | 50.00 | 43.6 |" in card.text
    assert "| parameters, millions | 9.36 | 9.4 |" in card.text
    assert [result.metric_value for result in card.data.eval_results] == [0.5, 0.75]  # ours alone
    assert "\n\n\n" not in card.text
    assert "paper reports" not in make_model_card(FACTS, REPORT, LOG, 1, SIZE).text


def test_speed_comes_with_its_machine():
    measurement = {"name": "a model", "stage": "network", "size": [512, 1024], "batch_size": 1, "threads": 2}
    times = {"median_ms": 12.34, "p10_ms": 12.0, "p90_ms": 13.06, "images_per_second": 81.04}
    benchmark = {
        "conditions": {"processor": "A processor, 2 cores"},
        "versions": {"torch": "2"},
        "included": {"network": "pixels to logits"},
        "measurements": [{**measurement, **times}],
    }
    card = make_model_card(FACTS, REPORT, LOG, 1, SIZE, benchmark)
    assert "on A processor, 2 cores, with torch 2." in card.text
    assert "| a model | network | 512×1024 | 1 | 2 | 12.3 | 12.0–13.1 | 81.0 |" in card.text
    assert "network: pixels to logits.\n\n## Training\n" in card.text
    assert "\n\n\n" not in card.text
    assert "## Speed" not in make_model_card(FACTS, REPORT, LOG, 1, SIZE).text


def test_long_curves_are_thinned_out():
    log = [{"step": 100 * step, "mean_iou": step / 100, "overall_accuracy": 0.5} for step in range(1, 51)]
    curve = make_model_card(FACTS, REPORT, log, 1, SIZE).text.partition("The curve")[2]
    steps = [int(cell.replace(",", "")) for cell in re.findall(r"^\| ([\d,]+) \|", curve, re.MULTILINE)]
    assert len(steps) == 12 and steps[-1] == 5000
    assert {400, 500} >= set(np.diff(steps).tolist())


def test_without_a_curve():
    card = make_model_card(FACTS, REPORT, [], 1, SIZE)
    assert "The curve" not in card.text and "\n\nVersions: torch 2.\n" in card.text


def test_example_loads_the_shipped_model_or_a_folder():
    assert "DEFAULT_MODEL" not in make_model_card(FACTS, REPORT, LOG, 1, SIZE).text
    shipped = dataclasses.replace(FACTS, is_shipped=True)
    assert "model=str(DEFAULT_MODEL))" in make_model_card(shipped, REPORT, LOG, 1, SIZE).text


def test_another_licence_needs_name_and_link():
    with pytest.raises(ValueError, match="license_link"):
        dataclasses.replace(FACTS, license="other", license_name="mine")


def test_facts_that_are_not_there_come_with_an_example(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)no file .*nowhere\.yaml\. .*name: CGRSeg-T for my streets"):
        read_facts(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("license: mit\n", ""), "does not say license"),
        (("license:", "licence: x\nlicense:"), "has licence"),
        (("license: mit", "license: ["), "is no YAML"),
        (("name:", "- name:"), "is no YAML|holds a list"),
        (("license: mit", "license: mit\npaper_checkpoint: t"), "cgrseg-t-ade20k"),
    ],
)
def test_facts_from_a_file(tmp_path, change, message):
    path = tmp_path / "card.yaml"
    names = ("name", "summary", "dataset", "dataset_id", "license", "uses", "training", "command")
    text = "".join(f"{name}: {getattr(FACTS, name)}\n" for name in names)
    path.write_text(text)
    assert read_facts(path) == dataclasses.replace(FACTS, evaluation="", limits=())
    path.write_text(text + "limits: Small things.\n")
    assert read_facts(path).limits == ("Small things.",)
    example = tmp_path / "example.yaml"
    example.write_text(FACTS_HINT.partition("For example:\n\n")[2])
    assert read_facts(example).dataset_id == "my-streets"
    path.write_text(text.replace(*change, 1))
    with pytest.raises(ValueError, match=message):
        read_facts(path)
