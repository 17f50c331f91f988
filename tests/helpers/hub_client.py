# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What people do with a model on the Hub, each in a process of its own that hub_process.py starts.

    python hub_client.py TASK WORKSPACE --result-folder FOLDER [--without MODULE ...]

does one of the tasks below, as on a computer where the modules are not installed, and writes what it saw to
FOLDER/report.pt. WORKSPACE holds the folders `model` and `backbone` and the picture `picture.png`.

Modules must be hidden before anything imports them: hence the imports within functions.
"""

import argparse
import importlib
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

MODEL_REPO = "user/model"
BACKBONE_REPO = "user/backbone"
PUSHED_REPO = "user/pushed"


class ErrorRecorder(logging.Handler):
    """Keeps the messages of errors."""

    def __init__(self):
        super().__init__(level=logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message."""
        self.messages.append(record.getMessage())


def use_with_package(workspace: Path, result_folder: Path) -> dict[str, Any]:
    """Load from the folder by the classes of cgrseg_hf."""
    import cgrseg_hf  # noqa: F401 - the import makes transformers know the classes

    return use_model(workspace, str(workspace / "model"), trust_remote_code=None)


def publish(workspace: Path, result_folder: Path) -> dict[str, Any]:
    """Load from the folder by the classes of cgrseg_hf, and push everything."""
    report = use_with_package(workspace, result_folder)

    from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

    from cgrseg_hf import EfficientFormerV2Backbone

    AutoModelForSemanticSegmentation.from_pretrained(workspace / "model").push_to_hub(MODEL_REPO)
    AutoImageProcessor.from_pretrained(workspace / "model").push_to_hub(MODEL_REPO)
    EfficientFormerV2Backbone.from_pretrained(workspace / "backbone").push_to_hub(BACKBONE_REPO)
    return report


def use_without_package(workspace: Path, result_folder: Path) -> dict[str, Any]:
    """Load from the folder and from the Hub by remote code, save that again and load it too."""
    import torch
    from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModelForSemanticSegmentation

    report = {
        "folder": use_model(workspace, str(workspace / "model"), trust_remote_code=True),
        "hub": use_model(workspace, MODEL_REPO, trust_remote_code=True),
    }
    again = result_folder / "again"
    AutoModelForSemanticSegmentation.from_pretrained(MODEL_REPO, trust_remote_code=True).save_pretrained(again)
    AutoImageProcessor.from_pretrained(MODEL_REPO, trust_remote_code=True).save_pretrained(again)
    report["saved again"] = use_model(workspace, str(again), trust_remote_code=True)

    backbone = AutoBackbone.from_pretrained(BACKBONE_REPO, trust_remote_code=True)
    with torch.no_grad():
        feature_maps = backbone(report["hub"]["pixel_values"]).feature_maps
    report["backbone"] = {"class": class_name(backbone), "feature_maps": feature_maps}
    config = AutoConfig.from_pretrained(workspace / "backbone", trust_remote_code=True)
    report["backbone from configuration"] = class_name(AutoBackbone.from_config(config, trust_remote_code=True))
    return report


def use_pushed(workspace: Path, result_folder: Path) -> dict[str, Any]:
    """Run the pipeline from the repo that `cgrseg push` has sent."""
    from transformers import pipeline

    segmenter = pipeline("image-segmentation", model=PUSHED_REPO, trust_remote_code=True)
    return {"class": class_name(segmenter.model), "masks": find_masks(segmenter, workspace)}


TASKS = {task.__name__: task for task in (publish, use_with_package, use_without_package, use_pushed)}


def use_model(workspace: Path, source: str, trust_remote_code: bool | None) -> dict[str, Any]:
    """Load everything that a folder or repo of a model offers, and run it on the picture."""
    import torch
    from PIL import Image
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForSemanticSegmentation, pipeline

    auto_classes = (AutoConfig, AutoModel, AutoModelForSemanticSegmentation, AutoImageProcessor)
    config, base_model, model, image_processor = (
        auto_class.from_pretrained(source, trust_remote_code=trust_remote_code) for auto_class in auto_classes
    )
    picture = Image.open(workspace / "picture.png")
    inputs = image_processor(picture, return_tensors="pt")
    with torch.no_grad():
        features = base_model(inputs["pixel_values"]).last_hidden_state
        outputs = model(**inputs)
    label_maps = image_processor.post_process_semantic_segmentation(outputs, [picture.size[::-1]])
    segmenter = pipeline("image-segmentation", model=source, trust_remote_code=trust_remote_code)
    return {
        "classes": [class_name(loaded) for loaded in (config, base_model, model, image_processor)],
        "pipeline classes": [class_name(loaded) for loaded in (segmenter.model, segmenter.image_processor)],
        "pixel_values": inputs["pixel_values"],
        "features": features,
        "logits": outputs.logits,
        "label_map": label_maps[0],
        "masks": find_masks(segmenter, workspace),
    }


def find_masks(segmenter: Any, workspace: Path) -> dict[str, Any]:
    """The masks of the classes in the picture."""
    import torch

    segments = segmenter(str(workspace / "picture.png"))
    return {segment["label"]: torch.tensor(np.asarray(segment["mask"])) for segment in segments}


def class_name(instance: object) -> str:
    """The module and name of an object's class."""
    return f"{type(instance).__module__}.{type(instance).__qualname__}"


def hide_modules(names: list[str]) -> None:
    """Make Python take modules for missing, for imports as well as for those that only look whether they are there."""
    for name in names:
        sys.modules[name] = None
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        raise AssertionError(f"{name} can be imported all the same.")


def main() -> None:
    """Do the task that the command line names."""
    parser = argparse.ArgumentParser(description="A user of the Hub.")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--result-folder", type=Path, required=True)
    parser.add_argument("--without", nargs="*", default=[], metavar="MODULE")
    arguments = parser.parse_args()
    hide_modules(arguments.without)

    import torch
    from transformers.utils import is_torchvision_available

    recorder = ErrorRecorder()
    for library in ("transformers", "huggingface_hub"):
        logging.getLogger(library).addHandler(recorder)
    report = TASKS[arguments.task](arguments.workspace, arguments.result_folder)
    report |= {"has torchvision": is_torchvision_available(), "errors": recorder.messages}
    torch.save(report, arguments.result_folder / "report.pt")


if __name__ == "__main__":
    main()
