# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What keeps a model from the Hub, and what keeps other files from it."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from helpers.hub_server import UNKNOWN_TOKEN
from huggingface_hub import ModelCard
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

from cgrseg_hf.hub import check_loading, push_folder, pushing
from cgrseg_hf.hub.cards import extend_card
from cgrseg_hf.hub.pushing import find_pushed_files, send_folder
from cgrseg_hf.hub.staging import find_leftovers, read_id2label, stage_export, stage_folder, stage_report

HUB_FOLDER = Path(pushing.__file__).parent
CARD = """---
license: mit
library_name: transformers
pipeline_tag: image-segmentation
---
A model.
"""


@pytest.fixture
def folder(decided_folder: Path, tmp_path: Path) -> Path:
    """A model's folder with a card."""
    folder = Path(shutil.copytree(decided_folder, tmp_path / "model"))
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def account(hub, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This process as a client of the Hub."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
    template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setenv("HF_TOKEN", "any")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return monkeypatch


def make_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json", "README.md"])
def test_missing_files_are_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        push_folder(folder, "user/model", dry_run=True)


@pytest.mark.parametrize("repo_id", ["model", "user/two/parts", "user/with space"])
def test_names_that_no_repo_has(folder: Path, repo_id: str):
    with pytest.raises(ValueError, match=repo_id):
        push_folder(folder, repo_id, dry_run=True)


def test_what_goes_along_has_to_fit(folder: Path, exported, photos: Path, tmp_path: Path):
    photo, export = photos / "000000015517.jpg", exported("torch").folder
    twins = [photo, shutil.copy(photo, tmp_path / f"{photo.stem}-classes.jpg")]
    for options, message in (
        ({"pictures": [photo]}, "picture_credit"),
        ({"pictures": twins, "picture_credit": "Mine."}, "rename"),
        ({"exports": [folder]}, "cgrseg export"),
        ({"exports": [export] * 2}, "rename"),
        ({"report": tmp_path / "nothing"}, "cgrseg evaluate"),
    ):
        with pytest.raises(ValueError, match=message):
            push_folder(folder, "user/model", dry_run=True, **options)
    with pytest.raises(ValueError, match=f"--exports {export}"):
        push_folder(export, "user/model", dry_run=True)
    with pytest.raises(ValueError, match="other classes"):
        stage_export(export, tmp_path, {0: "sky"})


def test_no_code_but_this_packages_without_trust(folder: Path, tmp_path: Path):
    def stage(name: str, **options) -> Path:
        stage_folder(folder, make_folder(tmp_path / name), "user/model", **options)
        return tmp_path / name

    shutil.copy(HUB_FOLDER / "handler.py", folder)  # as an earlier push wrote them
    shutil.copy(HUB_FOLDER / "templates" / "requirements.txt", folder)
    text = (folder / "modeling_cgrseg.py").read_text()
    (folder / "modeling_cgrseg.py").write_text(f"{text}\nraise SystemExit('a stranger')\n")
    config = json.loads((folder / "config.json").read_text())
    elsewhere = {**config, "auto_map": {"AutoConfig": "modeling_other.Other"}}
    (folder / "config.json").write_text(json.dumps(elsewhere))
    staged = stage("own")
    assert (staged / "modeling_cgrseg.py").read_text() == text
    assert (staged / "handler.py").read_bytes() == (HUB_FOLDER / "handler.py").read_bytes()
    assert json.loads((staged / "config.json").read_text())["auto_map"] == config["auto_map"]

    (folder / "config.json").write_text(json.dumps({**elsewhere, "model_type": "segformer"}))
    for name, edit in (("handler.py", "THRESHOLD = 0.5\n"), ("requirements.txt", "pillow-heif\n")):
        (folder / name).write_text((folder / name).read_text() + edit)
    foreign = "handler.py, modeling_cgrseg.py, .*requirements.txt, auto_map in config.json"
    with pytest.raises(ValueError, match=f"{foreign}.*--trust-remote"):
        stage("refused")
    staged = stage("trusted", trust_remote_code=True)
    for name in ("modeling_cgrseg.py", "handler.py", "requirements.txt", "config.json"):
        assert (staged / name).read_bytes() == (folder / name).read_bytes()


def test_of_an_evaluation_goes_what_lies_in_its_folder(folder: Path, tmp_path: Path):
    # As in the Hub's cache, whose files are links to those in blobs.
    repo, target, id2label = (
        tmp_path / "models--user--evaluation",
        make_folder(tmp_path / "target"),
        read_id2label(folder),
    )
    report = repo / "snapshots" / "0123"
    for path in (report, repo / "blobs"):
        path.mkdir(parents=True)
    content = {"data": {}, "classes": [{"name": name} for name in id2label.values()]}
    (report / "report.json").write_text(json.dumps(content))
    (repo / "blobs" / "abc").write_text("class,iou")
    (report / "per_class.csv").symlink_to("../../blobs/abc")
    stage_report(report, folder, target, "user/model", id2label, {})
    assert {path.name for path in target.iterdir()} == {"report.json", "per_class.csv"}
    assert (target / "per_class.csv").read_text() == "class,iou"

    (tmp_path / "secret").write_text("not for others")
    (report / "confusion_matrix.png").symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=r"is a link to .*secret, outside of the folder"):
        stage_report(report, folder, target, "user/model", id2label, {})
    (report / "report.json").write_text(json.dumps({**content, "weights": {"model.safetensors": "0" * 64}}))
    with pytest.raises(ValueError, match=f"other weights than those in {folder}"):
        push_folder(folder, "user/model", report=report, dry_run=True)
    (report / "report.json").write_text('{"data": {}, "classes": [{"name": "sky"}]}')
    with pytest.raises(ValueError, match=r"1 \(sky\): this one has 5"):
        push_folder(folder, "user/model", report=report, dry_run=True)


def test_of_an_export_goes_what_an_export_writes(exported, tmp_path: Path):
    export = Path(shutil.copytree(exported("torch").folder, tmp_path / "torch"))
    id2label, names = read_id2label(export), {path.name for path in export.iterdir()}

    def stage(name: str, **options) -> Path:
        stage_export(export, make_folder(tmp_path / name), id2label, **options)
        return tmp_path / name / "torch"

    (export / ".env").write_text("TOKEN=secret")
    (export / "model.onnx").write_bytes(b"of another format")
    assert {path.name for path in stage("own").iterdir()} == names
    (export / "evil.py").write_text("raise SystemExit('a stranger')")
    config = json.loads((export / "config.json").read_text())
    elsewhere = {**config, "model_type": "segformer", "auto_map": {"AutoConfig": "evil.Evil"}}
    (export / "config.json").write_text(json.dumps(elsewhere))
    with pytest.raises(ValueError, match=r"evil.py, auto_map in config.json.*--trust-remote-code"):
        stage("refused")
    staged = stage("trusted", trust_remote_code=True)
    assert {path.name for path in staged.iterdir()} == {*names, "evil.py"}
    assert json.loads((staged / "config.json").read_text()) == elsewhere
    (export / "model.pt2").unlink()
    with pytest.raises(ValueError, match=r"model.pt2"):
        stage("incomplete")


def test_the_check_needs_all_code_and_has_no_token(folder: Path, account: pytest.MonkeyPatch):
    shutil.copy(HUB_FOLDER / "handler.py", folder)
    before = {path.name for path in folder.iterdir()}
    account.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    name, labels = check_loading(folder)
    assert name.startswith("transformers_modules.") and name.endswith("CGRSegForSemanticSegmentation")
    assert labels and set(labels) <= {f"LABEL_{index}" for index in range(5)}
    assert {path.name for path in folder.iterdir()} == before  # a push sends what is in the folder
    (folder / "post_processing_cgrseg.py").unlink()
    with pytest.raises(ValueError, match=r"does not load .*post_processing_cgrseg"):
        check_loading(folder)
    account.setenv("HUGGING_FACE_HUB_TOKEN", "any")
    (folder / "handler.py").write_text(
        "import os, huggingface_hub\n"
        "raise ValueError([huggingface_hub.get_token(), *(name for name in os.environ if 'TOKEN' in name.split('_'))])"
    )
    with pytest.raises(ValueError, match=r"ValueError: \[None\]"):
        check_loading(folder)


@pytest.mark.long
def test_pictures_of_a_model_whose_code_is_trusted(tmp_path: Path, photos: Path, account: pytest.MonkeyPatch):
    folder = tmp_path / "model"
    config = SegformerConfig(num_labels=3, hidden_sizes=[8] * 4, depths=[1] * 4, decoder_hidden_size=8)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    settings = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": "other.OtherConfig", "AutoModelForSemanticSegmentation": "other.OtherModel"}
    (folder / "config.json").write_text(json.dumps({**settings, "model_type": "other", "auto_map": auto_map}))
    (folder / "other.py").write_text(
        "from transformers import SegformerConfig, SegformerForSemanticSegmentation\n"
        "class OtherConfig(SegformerConfig):\n    model_type = 'other'\n"
        "class OtherModel(SegformerForSemanticSegmentation):\n    config_class = OtherConfig\n"
    )
    options = {"pictures": [photos / "000000015517.jpg"], "picture_credit": "A street.", "dry_run": True}
    with pytest.raises(ValueError, match=r"other.py, auto_map in config.json"):
        push_folder(folder, "user/other", **options)
    pushed = push_folder(folder, "user/other", trust_remote_code=True, **options)
    assert pushed.model_class.endswith("other.OtherModel")
    assert {"other.py", "pictures/000000015517.jpg", "pictures/000000015517-classes.jpg"} <= pushed.files.keys()


def test_a_branch_is_made_or_taken(folder: Path, hub, account: pytest.MonkeyPatch):
    url = send_folder(folder, "user/branched", None, None, "First")
    first = hub.store.commit_id("user/branched", "main")
    assert url == f"{hub.endpoint}/user/branched/commit/{first}"
    assert hub.store.visibility("user/branched") == "public"
    (folder / "LICENSE").write_text("For tests alone.")
    for message in ("Make the branch", "Take it as it is"):
        send_folder(folder, "user/branched", None, "second", message)
    assert hub.store.commit_id("user/branched", "main") == first
    assert hub.names("user/branched", "second") == hub.names("user/branched") | {"LICENSE"}


def test_visibility_of_a_repo_that_exists(folder: Path, hub, account: pytest.MonkeyPatch):
    hub.store.create("user/open", "public")
    for dry_run in (False, True):
        with pytest.raises(ValueError, match=r"user/open exists and is public, not private"):
            push_folder(folder, "user/open", private=True, dry_run=dry_run)
    assert hub.names("user/open") == set()


def test_leftovers_have_names_of_a_push():
    sent = ["README.md", "config.json", "model.safetensors", "onnx/export.json", "onnx/model.onnx"]
    owned = ["model-00001-of-00002.safetensors", "model.safetensors.index.json", "modeling_cgrseg.py", "report.json"]
    owned += ["per_class.csv", "pictures/a [1].jpg", "pictures/a [1]-classes.jpg", "onnx/model.onnx.data"]
    owned += ["old/export.json", "old/model.bin", "old/configuration_cgrseg.py", "geometry_cgrseg.py"]
    others = [".gitattributes", "LICENSE", "model_2.safetensors", "train.py", "pictures/mine.jpg", "docs/report.json"]
    others += ["docs/old/export.json", "pictures/b-classes.jpg", "old/notes.md", "old/deep/model.bin"]
    others += ["mine/model.onnx"]
    assert find_leftovers([*sent, *owned, *others], sent) == sorted(owned)
    assert find_leftovers(others, sent) == []


def test_the_card_tells_whether_a_push_has_been_there(hub, account: pytest.MonkeyPatch):
    assert find_pushed_files("user/found") == []
    hub.store.create("user/found")
    for text, files in ((CARD, []), (extend_card(ModelCard(CARD), "user/found"), ["README.md"])):
        hub.store.add("user/found", {"README.md": text.encode()})
        for branch in (None, "not yet there"):
            assert find_pushed_files("user/found", branch) == files


def test_no_token(folder: Path, account: pytest.MonkeyPatch, tmp_path: Path):
    account.delenv("HF_TOKEN")
    account.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ValueError, match="hf auth login"):
        push_folder(folder, "user/model")


def test_refusals_of_the_hub(folder: Path, hub, account: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="may not write to somebody/model"):
        send_folder(folder, "somebody/model", None, None, "Message")
    with account.context() as patch:
        patch.setenv("HF_TOKEN", UNKNOWN_TOKEN)
        with pytest.raises(ValueError, match="does not know the token"):
            send_folder(folder, "user/other", None, None, "Message")
        patch.setattr(huggingface_hub.constants, "ENDPOINT", f"{hub.endpoint}/elsewhere")
        with pytest.raises(OSError, match="501"):
            send_folder(folder, "user/model", None, None, "Message")
        patch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(OSError, match=r"http://127.0.0.1:9 cannot be reached"):
            send_folder(folder, "user/model", None, None, "Message")
    (folder / "README.md").write_text(CARD.replace("license: mit", "license: my-own"))
    with pytest.raises(ValueError, match=r"refuses the card.*license"):
        send_folder(folder, "user/refused", None, None, "Message")
    assert not (hub.store.root / "user" / "refused").exists()
