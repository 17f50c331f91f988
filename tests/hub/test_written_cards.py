# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The cards in model_cards: that they are what the files say, and what the Hub takes."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.card_rules import find_errors
from huggingface_hub import EvalResult, ModelCard, ModelCardData, constants, metadata_load

from cgrseg_hf.benchmark.counting import PAPER_FIGURES
from cgrseg_hf.hub.model_card import PAPER_CHECKPOINTS, get_paper_figures, make_planned_card
from cgrseg_hf.pretrained import DEFAULT_MODEL
from cgrseg_hf.training import recipe_names

ROOT = Path(__file__).parents[2]
CARDS = sorted((ROOT / "model_cards").glob("*.md"))
PLANNED = [path for path in CARDS if path.stem in PAPER_CHECKPOINTS]


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_cards_are_what_the_files_say(tmp_path: Path):
    command = [sys.executable, str(ROOT / "scripts" / "write_cards.py"), "--output", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text(encoding="utf-8") for path in CARDS}
    assert (DEFAULT_MODEL / "README.md").read_text(encoding="utf-8") == written[f"{DEFAULT_MODEL.name}.md"]


@pytest.mark.parametrize("path", CARDS, ids=names(CARDS))
def test_the_hub_takes_it(path: Path, hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    ModelCard.load(path).validate()


@pytest.mark.parametrize("path", CARDS, ids=names(CARDS))
def test_metadata_round_trip(path: Path, tmp_path: Path):
    metadata = metadata_load(path)
    card = ModelCard.load(path)
    assert card.data.to_dict() == ModelCardData(**metadata).to_dict() == metadata
    card.save(tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", PLANNED, ids=names(PLANNED))
def test_the_papers_figures_are_no_results(path: Path):
    card, figures = ModelCard.load(path), get_paper_figures(path.stem)
    assert "model-index" not in card.data.to_dict() and card.data.eval_results is None
    first = card.text.split("\n\n")[1]
    assert first.startswith("**There are no weights of this model yet.**")
    assert f"--recipe {path.stem} " in card.text and path.stem in recipe_names()
    if figures.miou is None:
        assert "We have no figures of the paper" in card.text
    else:
        assert f", % | {figures.miou} | not yet |" in card.text


def test_every_model_of_the_paper_has_a_card():
    assert len(PLANNED) == len(PAPER_CHECKPOINTS) == 9
    for size in ("t", "b", "l"):
        figures = get_paper_figures(f"cgrseg-{size}-ade20k")
        assert (figures.params_m, figures.gflops) == PAPER_FIGURES[size]
    with pytest.raises(ValueError, match="cgrseg-t-ade20k"):
        make_planned_card("cgrseg-xs-ade20k")


def test_the_shipped_models_scores_and_licence():
    data = ModelCard.load(DEFAULT_MODEL / "README.md").data
    assert data.license == "other" and data.license_name and data.license_link.startswith("http")
    assert all(isinstance(result, EvalResult) for result in data.eval_results)
    assert {result.metric_type for result in data.eval_results} == {"mean_iou", "overall_accuracy"}
    for result in data.eval_results:
        assert "whole image, scale 1" in result.metric_args["protocol"] and result.verified is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("license: other", "license: ours", '"license" must be one of'),
        ("license_name: camvid-research-only", "license_name: Camvid Research", '"license_name"'),
        ("license_link: http:", "license_link: ftp:", '"license_link"'),
        ("      type: camvid\n", "", '"model-index[0].results[0].dataset.type" is required'),
        ("      value: 0.6845\n", "", '"model-index[0].results[0].metrics[0].value" is required'),
        ("      name: mean IoU\n", "      verified: true\n", "verified"),
        ("datasets:\n- camvid\n", "datasets: 3\n", '"datasets"'),
        ("tags:", "tags: [", "YAML"),
    ],
)
def test_the_stand_in_for_the_hub_refuses(old: str, new: str, message: str):
    text = (DEFAULT_MODEL / "README.md").read_text(encoding="utf-8")
    assert old in text and find_errors(text) == []
    assert message in "\n".join(find_errors(text.replace(old, new, 1)))
