# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The models to choose from: what their cards say, and what strangers may and may not name."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import huggingface_hub
import pytest
from helpers.hub_process import client_environment
from helpers.hub_server import BRANCH

import cgrseg_hf
from cgrseg_hf.demo import html
from cgrseg_hf.demo.errors import DemoError
from cgrseg_hf.demo.models import ModelShelf, load_model, read_excerpt
from cgrseg_hf.pretrained import DEFAULT_MODEL


def test_the_shipped_models_card():
    model = load_model(str(DEFAULT_MODEL), "torch")
    assert model.name == "CGRSeg-T for street scenes"
    assert model.card.data_sets == ("CamVid",)
    assert model.card.notice == "Research use only."
    shown = html.model_description(model)
    assert "Trained on CamVid. It knows 11 classes (sky, building," in shown
    assert "photos taken from a car" in shown
    model.segmenter.id2label = {number: f"thing {number}" for number in range(150)}
    assert "It knows 150 classes (thing 0, " in html.model_description(model)
    assert "thing 11 and 138 more)" in html.model_description(model)


@pytest.mark.parametrize(
    ("card", "title", "summary", "data_sets"),
    [
        ("", "", "", ()),
        ("Only words.", "", "Only words.", ()),
        ("# Name\n\nFirst **bold** [link](http://x).\n\n## More\nhidden", "Name", "First bold link.", ()),
        ("# <b>Name</b>\n<script>alert(1)</script> Words.", "Name", "alert(1) Words.", ()),
        ("---\ndatasets: ade\n---\n# Name", "Name", "", ("ade",)),
        ("---\ndatasets: [a, b]\n---\nWords.", "", "Words.", ("a", "b")),
        ("---\ndatasets: [a\n---\n# Name", "Name", "", ()),
        ("---\ndatasets: [a, [b]]\n---\n# Name", "Name", "", ()),
        ("---\n- a\n---\n# Name", "Name", "", ()),
        ("---\n# no metadata", "no metadata", "", ()),
        (
            "# \n# Name  \nWords <!-- of\n\n---> two <!-- comments -->to keep. <!-- not closed",
            "Name",
            "Words two to keep.",
            (),
        ),
        (f"# {'long ' * 100}", ("long " * 40), "", ()),
        (f"# Name\n{'A sentence of some length. ' * 40}", "Name", ("A sentence of some length. " * 17).strip(), ()),
    ],
)
def test_cards(card, title, summary, data_sets):
    excerpt = read_excerpt(card)
    assert (excerpt.title, excerpt.summary, excerpt.data_sets) == (title, summary, data_sets)


@pytest.mark.parametrize(
    ("begin", "repeated", "title", "summary"),
    [
        ("# Name\n# ", " ", "Name", ""),
        ("# Name\n", "<!--", "Name", ""),
        ("# Name\n", "[", "Name", "[" * 480 + " …"),
        ("# Name\n", "<", "Name", "<" * 480 + " …"),
        ("# Name\n", "[](", "Name", "[](" * 160 + " …"),
        ("# Name\n**", "*", "Name", "*"),
        ("# Name\nWords.", "\n ", "Name", "Words."),
        ("---", "\n", "", "---"),
        ("---\n", "- ", "", "--- " + "- " * 238 + "…"),
        ("---\na: &a ", "[", "", "--- a: &a …"),
    ],
)
def test_cards_of_strangers(decided_folder, tmp_path, begin, repeated, title, summary):
    """The beginning of a card is read, and all steps are linear: steps that are not would take hours here."""
    folder = shutil.copytree(decided_folder, tmp_path / "model")
    (folder / "README.md").write_text(begin + repeated * 1_000_000 + "\n# Another name\n")
    model = load_model(str(folder), "torch")
    assert (model.name, model.card.title) == (title or "model", title)
    assert model.card.summary == summary


def test_models_without_a_card_are_called_as_their_folder(decided_folder, tmp_path):
    other = shutil.copytree(decided_folder, tmp_path / "other" / decided_folder.name)
    shelf = ModelShelf([str(decided_folder), str(other), str(decided_folder)], "torch")
    assert shelf.choices == [decided_folder.name, f"{decided_folder.name} (2)"]
    assert shelf.get() is shelf.get(decided_folder.name)
    assert shelf.get(shelf.choices[1]).name == shelf.choices[1]


def test_visitors_choose_from_the_list(decided_folder):
    shelf = ModelShelf([str(decided_folder)], "torch")
    for name in (str(decided_folder), "", "../secret"):
        with pytest.raises(DemoError, match="choose one of the list"):
            shelf.get(name)
    with pytest.raises(DemoError, match="models of its list only"):
        shelf.get_from_hub("user/model", 1)


def test_wrong_models_are_refused_at_the_start(tmp_path):
    with pytest.raises((ValueError, OSError), match="nowhere"):
        ModelShelf([str(tmp_path / "nowhere")], "torch")


def test_only_ids_of_the_hub_are_taken(decided_folder, tmp_path, monkeypatch):
    shelf = ModelShelf([str(decided_folder)], "torch", allow_any=True)
    for name in ("", "model", "/etc/passwd", "../user/model", "..", "user/../model", "a/b/c", "http://x/y", "~/model"):
        with pytest.raises(DemoError, match="write it as owner/name"):
            shelf.get_from_hub(name, 1)


def test_models_that_are_not_there_yet(decided_folder, slow_hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", slow_hub.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    shelf = ModelShelf([str(decided_folder)], "torch", allow_any=True)
    for seconds in (0.01, 0):
        with pytest.raises(DemoError, match="user/first is still being fetched"):
            shelf.get_from_hub("user/first", seconds)

    # the second is in the queue when two others take its place
    with ThreadPoolExecutor(1) as visitors:
        waiting = visitors.submit(shelf.get_from_hub, "user/second", 600)
        while "user/second" not in shelf._of_visitors:
            assert not waiting.done()
        for repo_id in ("user/third", "user/fourth"):
            with pytest.raises(DemoError, match="still being fetched"):
                shelf.get_from_hub(repo_id, 0)
        with pytest.raises(DemoError, match=r"user/second was put aside .* choose it again"):
            waiting.result()

    slow_hub.gate.set()
    for seconds, times in ((600, 1), (0, 1), (600, 2)):  # only who waits asks again
        with pytest.raises(DemoError, match="no public model user/fourth"):
            shelf.get_from_hub("user/fourth", seconds)
        assert slow_hub.asked.count("/api/models/user/fourth") == times
    assert "/api/models/user/second" not in slow_hub.asked


ASK_THE_HUB = """
import json, sys
from cgrseg_hf.demo import models
from cgrseg_hf.demo.errors import DemoError
from cgrseg_hf.demo.models import ModelShelf, load_model
shelf = ModelShelf([sys.argv[1]], "torch", allow_any=True)
answers = {}
for repo_id in sys.argv[2:]:
    models.LARGEST_DOWNLOAD = 1000 if repo_id == "user/large" else 2**31
    try:
        model = shelf.get_from_hub(repo_id, 60)
        answers[repo_id] = [model.name, len(model.segmenter.id2label)]
    except DemoError as error:
        answers[repo_id] = str(error)
answers["at the start"] = load_model(sys.argv[2], "torch").name
print(json.dumps(answers))
"""


def test_models_of_the_hub(hub, decided_folder, tmp_path):
    def put(name: str, source: Path, *left_out: str, **files: str) -> None:
        hub.store.create(f"user/{name}")
        folder = hub.store.folder(f"user/{name}", BRANCH)
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*left_out), dirs_exist_ok=True)
        (folder / "more").mkdir()
        (folder / "more" / "model.safetensors").write_bytes(b"what is not counted is not fetched either")
        for file, content in files.items():
            (folder / file.replace("__", ".")).write_text(content)

    config = (decided_folder / "config.json").read_text()
    put("good", decided_folder, evil__py="raise SystemExit('this ran')")
    put("large", decided_folder)
    put("pickle", decided_folder, "*.safetensors", pytorch_model__bin="no weights")
    put("broken", decided_folder, config__json="{no json")
    put(
        "huge", decided_folder, config__json=config.replace('"decoder_hidden_size": 16', '"decoder_hidden_size": 90000')
    )
    put("verbose", decided_folder, config__json=config + " " * 2**20)
    put("foreign", decided_folder, config__json=json.dumps({"model_type": "unheard-of"}))
    (hub.store.root / "user" / "branchless").mkdir()
    here = tmp_path / "here"
    shutil.copytree(decided_folder, here / "user" / "local")  # a folder of this computer, not a model of the Hub

    environment = client_environment(hub.endpoint, tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(cgrseg_hf.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    names = "good large pickle broken huge verbose foreign local missing branchless"
    names = [f"user/{name}" for name in names.split()]
    command = [sys.executable, "-c", ASK_THE_HUB, str(decided_folder), *names]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers["user/good"] == ["user/good", 5]
    assert answers["at the start"] == "user/good"
    assert answers["user/branchless"].endswith("the Hugging Face Hub did not answer as expected.")
    assert "0.0 GB allowed here" in answers["user/large"]
    assert "no model.safetensors" in answers["user/pickle"]
    assert "its config.json is far too large" in answers["user/verbose"]
    assert "parameters, and its files hold" in answers["user/huge"]
    for name in ("broken", "foreign", "huge"):
        assert f"user/{name} is no model that this page can use" in answers[f"user/{name}"]
        assert str(tmp_path) not in answers[f"user/{name}"]
    for name in ("local", "missing"):
        assert f"There is no public model user/{name}" in answers[f"user/{name}"]
    fetched = {path.name for path in (tmp_path / "home").rglob("models--user--good/snapshots/*/*")}
    assert fetched == {"config.json", "model.safetensors", "preprocessor_config.json"}
