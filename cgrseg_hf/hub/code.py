# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The code that goes to the Hub beside a model: this package's own, and no other unless somebody vouches for it."""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import custom_object_save

from .. import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegImageProcessorPil
from .files import CONFIG, IMAGE_PROCESSOR, check_inside, read_json, write_json

HANDLER = "handler.py"
_OWN_IMAGE_PROCESSORS = (CGRSegImageProcessor.__name__, CGRSegImageProcessorPil.__name__)
_OWN_FILES = {
    HANDLER: Path(__file__).parent / HANDLER,
    "requirements.txt": Path(__file__).parent / "templates" / "requirements.txt",
}
_MODEL_FOLDER = Path(__file__).parents[1] / "model"
# Settings by which transformers finds code.
_NAMES_OF_CODE = ("auto_map", "custom_pipelines")


def stage_code(source: Path, target: Path, trust_remote_code: bool = False, *, has_weights: bool = True) -> None:
    """
    Put a model's code beside its settings, and what Inference Endpoints need: handler.py and requirements.txt.

    CGRSeg's code is that of this package, whatever lies in the folder: it may be a stranger's, and a push runs what it
    sends. A handler.py or requirements.txt that differs from this version's, and may be somebody's work, is refused
    and never replaced.

    Args:
        source (`Path`): Folder of the model, or of an export.
        target (`Path`): Folder that goes to the Hub, with the model's settings in it.
        trust_remote_code (`bool`, *optional*, defaults to `False`): Whether the folder's own code, handler.py and
            requirements.txt go along as they are.
        has_weights (`bool`, *optional*, defaults to `True`): Whether the folder holds the model's weights; one of an
            export needs neither the model's code nor handler.py and requirements.txt.

    Raises:
        ValueError: If there is code that is not of this package, and nobody vouches for it.
    """
    if has_weights:
        for name in _OWN_FILES:
            shutil.copy2(_OWN_FILES[name], target / name)
    if trust_remote_code:
        for file in find_code(source):
            check_inside(file, source)
            shutil.copy2(file, target / file.name)
    _add_own_code(target, trust_remote_code, has_weights)
    foreign = find_foreign_code(source, target)
    if foreign and not trust_remote_code:
        raise ValueError(
            f"{source} brings code that is not of this version of cgrseg_hf: {', '.join(foreign)}. A push runs it on "
            "this computer as you, and publishes it: read it, and then add --trust-remote-code "
            "(trust_remote_code=True); or take it out of the folder, and what cgrseg_hf has in its place goes along."
        )


def find_code(folder: Path) -> list[Path]:
    """The files of a folder that are code, or name packages to install for it."""
    return sorted({*folder.glob("*.py"), *(folder / name for name in _OWN_FILES if (folder / name).is_file())})


def find_foreign_code(source: Path, target: Path) -> list[str]:
    """What code of a model's folder, or named by the staged settings, is not of this package."""
    foreign = []
    for file in find_code(source):
        if file.name in _OWN_FILES:
            is_own = file.read_bytes() == _OWN_FILES[file.name].read_bytes()
        else:
            staged, own = target / file.name, _MODEL_FOLDER / file.name
            is_own = staged.is_file() and own.is_file() and staged.read_bytes() == own.read_bytes()
        if not is_own:
            foreign.append(file.name)
    for name in (CONFIG, IMAGE_PROCESSOR):
        settings = read_json(target / name)
        own_map = _own_auto_map(settings)
        for key in _NAMES_OF_CODE:
            if settings.get(key) and not (key == "auto_map" and settings[key] == own_map):
                foreign.append(f"{key} in {name}")
    return foreign


def _add_own_code(target: Path, keep: bool, has_weights: bool) -> None:
    """Write this package's code, and where to find it, for what is of its classes; or keep what is said there."""
    for name, classes in (
        (CONFIG, (CGRSegConfig, CGRSegForSemanticSegmentation) if has_weights else (CGRSegConfig,)),
        (IMAGE_PROCESSOR, (CGRSegImageProcessor,)),
    ):
        settings = read_json(target / name)
        own_map = _own_auto_map(settings)
        if own_map is None or (keep and "auto_map" in settings):
            continue
        write_json(target / name, {**settings, "auto_map": own_map})
        for one in classes:
            custom_object_save(one, target)


def _own_auto_map(settings: dict[str, Any]) -> dict[str, Any] | None:
    """Where transformers finds the classes of settings, if these are classes of this package."""
    own_map = None
    if settings.get("model_type") == CGRSegConfig.model_type:
        own_map = CGRSegConfig().auto_map
    elif settings.get("image_processor_type") in _OWN_IMAGE_PROCESSORS:
        own_map = CGRSegImageProcessorPil().to_dict()["auto_map"]
    return own_map and json.loads(json.dumps(own_map))
