# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Model cards: made from what was measured, kept where people changed them, and extended by a push."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from cgrseg_hf.hub import CardFacts, make_model_card
from cgrseg_hf.hub.cards import FACTS_HINT, PAPER_FIGURES, extend_card, read_card, read_facts, write_card
from cgrseg_hf.pretrained import DEFAULT_MODEL
from cgrseg_hf.training import load_recipe

ROOT = Path(__file__).parents[2]
CARDS = ROOT / "model_cards"
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
BACKBONES = {"t": "s1", "b": "s2", "l": "l"}
METADATA = "license: mit\nlibrary_name: transformers\npipeline_tag: image-segmentation\n"


def make_text(facts: CardFacts = FACTS, report: dict = REPORT, log: list = LOG, **options) -> str:
    """The text of a card, which has no gaps where parts are left out."""
    text = make_model_card(facts, report, log, 1234567, options.pop("size", SIZE), **options).text
    assert "\n\n\n" not in text
    return text


def write(folder: Path, metadata: str = METADATA, text: str = "\n# A model\n") -> Path:
    (folder / "README.md").write_text(f"---\n{metadata}---\n{text}")
    return folder


def test_card():
    (score, accuracy) = make_model_card(FACTS, REPORT, LOG, 1, SIZE).data.eval_results
    assert (score.metric_value, accuracy.metric_value, score.dataset_split) == (0.5, 0.75, "test")
    text = make_text(dataclasses.replace(FACTS, comparison="Others are worse."))
    for part in (
        "Two classes, test split, 3 images, whole image; measured with cgrseg_hf.",
        "1,234,567 parameters",
        "a shorter side of 512 pixels, or less where the longer one would exceed 2048",
        "| ground\\|floor | 50.0 | – | 100.00 |",
        "| **mean IoU** | **50.00** | | |",
        "| 1 | 0.5000 | 50.00 | 75.00 |",
        "```bash\ncgrseg evaluate --data two\n```\n\n",
        "Others are worse.\n\n## Training\n",
        "CGRSeg",
    ):
        assert part in text
    for part in ("paper reports", "## Speed", "DEFAULT_MODEL"):
        assert part not in text


def test_what_changes_the_card():
    other = make_text(report={**REPORT, "precision": "bfloat16"}, model_type="segformer")
    assert "CGRSeg" not in other and "Citation" not in other and "whole image, bfloat16; measured" in other
    assert "64×96 pixels (height × width)" in make_text(size={"height": 64, "width": 96})
    assert "The curve" not in make_text(log=[])
    assert "model=str(DEFAULT_MODEL))" in make_text(dataclasses.replace(FACTS, is_shipped=True))
    paper = make_text(dataclasses.replace(FACTS, paper_checkpoint="cgrseg-t-ade20k"))
    assert "| mean IoU, % | 50.00 | 43.6 |\n| parameters, millions | 1.23 | 9.4 |" in paper


def test_speed_comes_with_its_machine():
    measurement = {"name": "a model", "stage": "network", "size": [512, 1024], "batch_size": 1, "threads": 2}
    times = {"median_ms": 12.34, "p10_ms": 12.0, "p90_ms": 13.06, "images_per_second": 81.04}
    benchmark = {
        "conditions": {"processor": "A processor, 2 cores"},
        "versions": {"torch": "2"},
        "included": {"network": "pixels to logits"},
        "measurements": [{**measurement, **times}],
    }
    text = make_text(benchmark=benchmark)
    assert "on A processor, 2 cores, with torch 2." in text
    assert "| a model | network | 512×1024 | 1 | 2 | 12.3 | 12.0–13.1 | 81.0 |" in text


def test_long_curves_are_thinned_out():
    log = [{"step": 100 * step, "mean_iou": step / 100, "overall_accuracy": 0.5} for step in range(1, 51)]
    curve = make_text(log=log).partition("The curve")[2]
    steps = [int(cell) for cell in re.findall(r"^\| (\d+) \|", curve, re.MULTILINE)]
    assert len(steps) == 12 and steps[-1] == 5000
    assert {400, 500} >= set(np.diff(steps).tolist())


def test_facts_from_a_file(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(FACTS_HINT.partition("For example:\n\n")[2] + "\nlimits: Small things.\n")
    facts = read_facts(path)
    assert facts.dataset_id == "my-streets" and facts.limits == ("Small things.",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("license: apache-2.0\n", "", "license"),
        ("license:", "licence: x\nlicense:", "licence"),
        ("license: apache-2.0", "license: other\nlicense_name: mine", "license_link"),
        ("license: apache-2.0", "license: [", "card.yaml"),
        ("command:", "paper_checkpoint: t\ncommand:", "cgrseg-t-ade20k"),
    ],
)
def test_facts_that_do_not_fit(tmp_path, old, new, message):
    path = tmp_path / "card.yaml"
    path.write_text(FACTS_HINT.partition("For example:\n\n")[2].replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_facts(path)


def test_a_card_that_people_changed_stays(tmp_path):
    path, card = tmp_path / "README.md", make_model_card(FACTS, REPORT, LOG, 1, SIZE)
    write_card(card, path)
    write_card(make_model_card(FACTS, REPORT, [], 1, SIZE), path)  # nobody has changed it
    for text in (path.read_text().replace("It segments.", "It segments well."), "# Mine\n"):
        path.write_text(text)
        with pytest.raises(ValueError, match="--overwrite"):
            write_card(card, path)
        assert path.read_text() == text
    write_card(card, path, overwrite=True)
    assert "Tests alone." in path.read_text()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (METADATA.replace("license: mit\n", ""), "license is missing"),
        (METADATA.replace("mit", "other"), r"license_name is missing.\n- .*license_link is missing"),
        (METADATA.replace("transformers", "timm"), "library_name is 'timm'"),
        (METADATA.replace("pipeline_tag: image-segmentation\n", ""), "pipeline_tag is None"),
        ("license: [\n", "cannot be read"),
        ("- a list\n", "cannot be read"),
        (METADATA + "model-index:\n- name: a\n  results:\n  - task: {}\n", "cannot be read"),
    ],
)
def test_cards_that_are_not_ready(tmp_path: Path, metadata: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_card(write(tmp_path, metadata))
    with pytest.raises(ValueError, match="no text"):
        read_card(write(tmp_path, text="\n"))


def test_a_later_push_replaces_what_an_earlier_one_added(tmp_path: Path):
    card = read_card(write(tmp_path, text="\n# A model\n\nIt segments.\n\n## Limits\n\nMany.\n"))
    first = extend_card(card, "user/one", exports=["`onnx`: ONNX"], pictures=["pictures/my (1).jpg"], credit="Mine.")
    for part in ('model="user/one", trust_remote_code=True', "- `onnx`: ONNX", "](pictures/my%20%281%29.jpg)\n\nMine."):
        assert part in first
    second = extend_card(ModelCard(first), "user/two", revision="next", has_code=False)
    assert 'model="user/two", revision="next")' in second
    assert "user/one" not in second and "Mine." not in second
    assert "It segments.\n\n<!--" in second and "-->\n\n## Limits\n" in second
    assert second.count("## From the Hub") == 1
    text = extend_card(read_card(write(tmp_path)), "user/one")  # without sections
    assert text.index("# A model") < text.index("## From the Hub")


def test_the_shipped_card_is_what_the_files_say():
    path = ROOT / "scripts" / "write_cards.py"
    specification = importlib.util.spec_from_file_location("write_cards", path)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    text = script.make_shipped_card(CARDS / f"{DEFAULT_MODEL.name}.yaml", DEFAULT_MODEL)
    assert (DEFAULT_MODEL / "README.md").read_text(encoding="utf-8") == text
    assert (CARDS / f"{DEFAULT_MODEL.name}.md").read_text(encoding="utf-8") == text
    card = read_card(DEFAULT_MODEL)
    assert card.data.license_name == "camvid-research-only" and card.data.eval_results[0].metric_value == 0.6845


def test_the_table_of_the_papers_models():
    """Each model has its recipe's command, and the paper's figures or a dash."""
    text = (CARDS / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "cgrseg train --recipe" in line]
    recipes = {re.search(r"--recipe (\S+)", row[-1])[1]: row for row in rows}
    assert recipes.keys() == PAPER_FIGURES.keys()
    for recipe, row in recipes.items():
        size = load_recipe(recipe).model
        assert row[0] == f"CGRSeg-{size.upper()}" and f"efficientformerv2_{BACKBONES[size]}.snap" in row[-1]
        names = ("miou", "params_m", "gflops", "images_per_s")
        assert row[2:-1] == [str(PAPER_FIGURES[recipe].get(name, "–")) for name in names]
