# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Publishing a model on the Hub and using it from there, with this package installed and without."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.hub_client import BACKBONE_REPO, MODEL_REPO
from helpers.hub_process import Hub, run_client
from PIL import Image

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor

PICTURE_SIZE = (50, 37)  # width, height
BACKBONE_FILES = {"config.json", "configuration_cgrseg.py", "model.safetensors", "modeling_efficientformerv2.py"}
MODEL_FILES = {
    *BACKBONE_FILES,
    "geometry_cgrseg.py",
    "modeling_cgrseg.py",
    "optimized_cgrseg.py",
    "post_processing_cgrseg.py",
}
PROCESSOR_FILES = {
    "geometry_cgrseg.py",
    "image_formats_cgrseg.py",
    "image_reading_cgrseg.py",
    "image_processing_cgrseg.py",
    "post_processing_cgrseg.py",
    "preprocessor_config.json",
}
CLASSES = [
    "configuration_cgrseg.CGRSegConfig",
    "modeling_cgrseg.CGRSegModel",
    "modeling_cgrseg.CGRSegForSemanticSegmentation",
    "image_processing_cgrseg.CGRSegImageProcessor",
]


@pytest.fixture(scope="module")
def model(tiny_config: Callable[..., CGRSegConfig]) -> CGRSegForSemanticSegmentation:
    """A model of five classes whose every weight counts: the initial values of most hardly show in the output."""
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config()).eval()
    for name, values in model.state_dict().items():
        if name.endswith("running_var"):
            values.uniform_(0.5, 1.5)
        elif values.is_floating_point():
            values.normal_(std=0.4)
    return model


@pytest.fixture(scope="module")
def image_processor() -> CGRSegImageProcessor:
    """An image processor with a setting of its own, to be found again."""
    return CGRSegImageProcessor(size={"height": 64, "width": 96})


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory,
    model: CGRSegForSemanticSegmentation,
    image_processor: CGRSegImageProcessor,
) -> Path:
    """A folder with the saved model, image processor and backbone, and a picture."""
    folder = tmp_path_factory.mktemp("workspace")
    model.save_pretrained(folder / "model")
    image_processor.save_pretrained(folder / "model")
    model.cgrseg.backbone.save_pretrained(folder / "backbone")
    pixels = np.random.default_rng(0).integers(0, 256, (*PICTURE_SIZE[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def expected(
    workspace: Path, model: CGRSegForSemanticSegmentation, image_processor: CGRSegImageProcessor
) -> dict[str, Any]:
    """What the original makes of the picture."""
    inputs = image_processor(Image.open(workspace / "picture.png"), return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
        features = model.cgrseg(inputs["pixel_values"]).last_hidden_state
        feature_maps = model.cgrseg.backbone(inputs["pixel_values"]).feature_maps
    label_maps = image_processor.post_process_semantic_segmentation(outputs, [PICTURE_SIZE[::-1]])
    return {
        "pixel_values": inputs["pixel_values"],
        "features": features,
        "logits": outputs.logits,
        "label_map": label_maps[0],
        "feature_maps": feature_maps,
    }


@pytest.fixture(scope="module")
def published(workspace: Path, hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of somebody who has this package, loads the saved folder and pushes what is in it."""
    return run_client("publish", workspace, hub, tmp_path_factory.mktemp("publish"))


@pytest.fixture(scope="module", params=["torchvision", pytest.param("without torchvision", marks=pytest.mark.long)])
def used(
    request: pytest.FixtureRequest,
    published: dict[str, Any],
    workspace: Path,
    hub: Hub,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """The report of somebody who lacks this package, and perhaps torchvision, and uses what was saved and pushed."""
    if request.param == "torchvision":
        pytest.importorskip("torchvision")
    without = ["cgrseg_hf"] if request.param == "torchvision" else ["cgrseg_hf", "torchvision"]
    report = run_client("use_without_package", workspace, hub, tmp_path_factory.mktemp("use"), without)
    assert report["has torchvision"] == ("torchvision" not in without)
    return report


def assert_same_results(report: dict[str, Any], expected: dict[str, Any]) -> None:
    """The same numbers at every step from picture to label map, and from the pipeline."""
    for name in ("pixel_values", "features", "logits", "label_map"):
        torch.testing.assert_close(report[name], expected[name])
    label_map = expected["label_map"]
    assert report["masks"].keys() == {f"LABEL_{index}" for index in label_map.unique()}
    for label, mask in report["masks"].items():
        torch.testing.assert_close(mask > 0, label_map == int(label.removeprefix("LABEL_")))


def is_remote_class(loaded: str, name: str) -> bool:
    """The class comes from the code beside the weights."""
    return loaded.startswith("transformers_modules.") and loaded.endswith(f".{name}")


def test_push_sends_weights_settings_and_code(published: dict[str, Any], hub: Hub):
    assert hub.names(MODEL_REPO) == {"README.md", *MODEL_FILES, *PROCESSOR_FILES}
    assert hub.names(BACKBONE_REPO) == {"README.md", *BACKBONE_FILES}


def test_package_loads_folder_by_its_own_classes(published: dict[str, Any], expected: dict[str, Any]):
    assert_package_loads(published, expected)


def test_package_loads_folder_without_torchvision(workspace: Path, hub: Hub, tmp_path: Path, expected: dict[str, Any]):
    report = run_client("use_with_package", workspace, hub, tmp_path, without=["torchvision"])
    assert not report["has torchvision"]
    assert_package_loads(report, expected)


def assert_package_loads(report: dict[str, Any], expected: dict[str, Any]) -> None:
    processor = CLASSES[3] if report["has torchvision"] else f"{CLASSES[3]}Pil"
    assert report["classes"] == [f"cgrseg_hf.model.{name}" for name in (*CLASSES[:3], processor)]
    assert report["pipeline classes"] == report["classes"][2:]
    assert report["errors"] == []
    assert_same_results(report, expected)


@pytest.mark.parametrize("source", ["folder", "hub", "saved again"])
def test_loads_without_package(used: dict[str, Any], source: str, expected: dict[str, Any]):
    report = used[source]
    assert used["errors"] == []
    names = [*CLASSES[:3], CLASSES[3] if used["has torchvision"] else f"{CLASSES[3]}Pil"]
    for loaded, name in zip(report["classes"] + report["pipeline classes"], names + names[2:], strict=True):
        assert is_remote_class(loaded, name)
    assert_same_results(report, expected)


def test_backbone_loads_without_package(used: dict[str, Any], expected: dict[str, Any]):
    for loaded in (used["backbone"]["class"], used["backbone from configuration"]):
        assert is_remote_class(loaded, "modeling_efficientformerv2.EfficientFormerV2Backbone")
    torch.testing.assert_close(used["backbone"]["feature_maps"], expected["feature_maps"])


def test_saving_without_package_keeps_code_and_weights(used: dict[str, Any], workspace: Path):
    original, again = workspace / "model", used["result folder"] / "again"
    assert {path.name for path in again.iterdir()} == {path.name for path in original.iterdir()}
    for path in original.iterdir():
        if path.suffix == ".json":
            assert json.loads((again / path.name).read_text())["auto_map"] == json.loads(path.read_text())["auto_map"]
        else:
            assert (again / path.name).read_bytes() == path.read_bytes(), path.name
