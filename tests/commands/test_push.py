# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg push` to a Hub of this computer's own, and what people who lack this package can do with what it sent."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.hub_client import PUSHED_REPO
from helpers.hub_process import Hub, client_environment, run_client
from huggingface_hub import ModelCard
from PIL import Image
from transformers import pipeline

from cgrseg_hf.hub.cards import extend_card

CARD = """---
license: other
license_name: tests-only
license_link: LICENSE
library_name: transformers
pipeline_tag: image-segmentation
---

# A model

It segments.

## Limits

Many.
"""
CODE = {
    "configuration_cgrseg.py",
    "geometry_cgrseg.py",
    "image_processing_cgrseg.py",
    "image_formats_cgrseg.py",
    "image_reading_cgrseg.py",
    "modeling_cgrseg.py",
    "modeling_efficientformerv2.py",
    "optimized_cgrseg.py",
    "post_processing_cgrseg.py",
}
LEFT_BEHIND = {"model-00001-of-00002.safetensors", "confusion_matrix.png", "pictures/a.jpg", "pictures/a-classes.jpg"}
OF_A_PERSON = {"train.py", "pictures/mine.jpg"}
PICTURE_SIZE = (50, 37)  # width, height


@pytest.fixture(scope="module")
def workspace(decided_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was saved without its code, as the shipped one, among other things of a training; and a picture."""
    workspace = tmp_path_factory.mktemp("workspace")
    model = Path(shutil.copytree(decided_folder, workspace / "model"))
    for path in model.glob("*.py"):
        path.unlink()
    for path in model.glob("*.json"):
        path.write_text(
            json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "auto_map"})
        )
    (model / "README.md").write_text(CARD)
    (model / "LICENSE").write_text("For tests alone.")
    (model / "optimizer.pt").write_text("not for others")
    (model / "worst").mkdir()
    Image.new("RGB", (8, 8)).save(model / "worst" / "01_secret.png")

    report = {
        "model": "somewhere/model",
        "data": {"description": "/home/somebody/data: 1 pair", "split": "validation"},
        "metrics": {"mean_iou": 0.5},
        "classes": [{"name": f"LABEL_{index}"} for index in range(5)],
        "worst": [{"name": "secret.jpg", "mean_iou": 0.1}],
    }
    (workspace / "report").mkdir()
    (workspace / "report" / "report.json").write_text(json.dumps(report))
    pixels = np.random.default_rng(0).integers(0, 256, (*PICTURE_SIZE[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(workspace / "picture.png")
    return workspace


def push(hub: Hub, folder: Path, workspace: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "cgrseg_hf", "push", str(workspace / "model"), PUSHED_REPO, *arguments]
    environment = client_environment(hub.endpoint, folder) | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"} | environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def pushed(hub: Hub, workspace: Path, exported, photos: Path, tmp_path_factory) -> subprocess.CompletedProcess:
    """Everything that a push can send, to a repo where an earlier one and a person have been."""
    hub.store.create(PUSHED_REPO, "private")
    contents = dict.fromkeys((*LEFT_BEHIND, *OF_A_PERSON), b"")
    hub.store.add(PUSHED_REPO, {**contents, "README.md": extend_card(ModelCard(CARD), PUSHED_REPO).encode()})
    options = ["--report", str(workspace / "report"), "--exports", str(exported("torch").folder)]
    options += ["--private", "--message", "First"]
    options += ["--pictures", str(photos / "000000015517.jpg"), "--picture-credit", "A street, COCO, CC BY 2.0."]
    return push(hub, tmp_path_factory.mktemp("push"), workspace, *options)


def test_sends_what_it_lists(pushed: subprocess.CompletedProcess, hub: Hub, exported):
    assert pushed.returncode == 0, pushed.stderr
    expected = {"README.md", "LICENSE", "config.json", "preprocessor_config.json", "model.safetensors", *CODE}
    expected |= {"handler.py", "requirements.txt", "report.json"}
    expected |= {"pictures/000000015517.jpg", "pictures/000000015517-classes.jpg"}
    expected |= {f"torch/{path.name}" for path in exported("torch").folder.iterdir()}
    assert hub.names(PUSHED_REPO) == expected | OF_A_PERSON
    lines = [line.split(maxsplit=1) for line in pushed.stdout.splitlines()]
    assert {name for word, name in lines if word == "deleted"} == LEFT_BEHIND
    listed = {line.split()[-1] for line in pushed.stdout.splitlines() if line.split()[1] in ("B", "kB", "MB")}
    assert listed == expected
    assert f"{hub.endpoint}/{PUSHED_REPO}/commit/" in pushed.stdout
    assert hub.store.visibility(PUSHED_REPO) == "private"


def test_card_and_evaluation_in_the_repo(pushed: subprocess.CompletedProcess, hub: Hub):
    card = ModelCard(hub.store.file(PUSHED_REPO, "main", "README.md").read_text())
    assert card.data.to_dict() == ModelCard(CARD).data.to_dict()
    for part in (f'model="{PUSHED_REPO}", trust_remote_code=True', "`torch`: torch in float32", "CC BY 2.0."):
        assert card.text.count(part) == 1
    text = hub.store.file(PUSHED_REPO, "main", "report.json").read_text()
    assert json.loads(text)["metrics"] == {"mean_iou": 0.5} and json.loads(text)["model"] == PUSHED_REPO
    assert "secret" not in text and "somebody" not in text


def test_pictures_are_a_photo_and_its_classes(pushed: subprocess.CompletedProcess, hub: Hub, photos: Path):
    sizes = []
    for file in (photos / "000000015517.jpg", *sorted(hub.store.folder(PUSHED_REPO, "main").glob("pictures/0*"))):
        with Image.open(file) as picture:
            sizes.append(picture.size)
    original, overlay, photo = sizes
    assert photo == original
    assert overlay[0] > original[0]  # the legend


def test_pipeline_without_package(pushed, decided_folder: Path, workspace: Path, hub: Hub, tmp_path: Path):
    used = run_client("use_pushed", workspace, hub, tmp_path, without=["cgrseg_hf"])
    assert used["class"].startswith("transformers_modules.") and used["errors"] == []
    segments = pipeline("image-segmentation", model=str(decided_folder))(str(workspace / "picture.png"))
    assert used["masks"].keys() == {segment["label"] for segment in segments} and len(segments) > 1
    for segment in segments:
        np.testing.assert_array_equal(used["masks"][segment["label"]], np.asarray(segment["mask"]))


@pytest.mark.long
def test_dry_run_needs_neither_token_nor_hub(workspace: Path, tmp_path: Path):
    nowhere = Hub("http://127.0.0.1:9", None)
    ended = push(nowhere, tmp_path, workspace, "--dry-run", HF_TOKEN="")
    assert ended.returncode == 0, ended.stderr
    assert "Nothing was sent" in ended.stdout and "model.safetensors" in ended.stdout
    assert "optimizer" not in ended.stdout and "secret" not in ended.stdout
