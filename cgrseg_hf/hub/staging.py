# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The folder that goes to the Hub: the files that are named here, and nothing else that lies beside them."""

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save

from ..engines.export_settings import EXPORT_FILE, MODEL_FILES, is_export, read_settings
from ..evaluation.report import check_report, without_sources
from ..model.configuration_cgrseg import CGRSegConfig
from ..model.image_processing_cgrseg import CGRSegImageProcessor, CGRSegImageProcessorPil
from ..model.image_reading_cgrseg import read_image, to_photo
from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
from ..utils.provenance import digest_weights
from ..visualization import draw_overlay
from .cards import CARD_FILE, check_card_weights, extend_card, read_card

CONFIG, IMAGE_PROCESSOR, REPORT = "config.json", "preprocessor_config.json", "report.json"
_MODEL_FILES = (CONFIG, IMAGE_PROCESSOR, "model*.safetensors", "model.safetensors.index.json", "LICENSE*")
_REPORT_FILES = ("per_class.csv", "confusion_matrix.png")
# Weights beside the file that an engine loads: OpenVINO always has them, ONNX if they are large.
_DATA_FILES = {"onnx": ("model.onnx.data",), "openvino": ("model.bin",)}
_EXPORT_FILES = {
    name: (EXPORT_FILE, CONFIG, IMAGE_PROCESSOR, file, *_DATA_FILES.get(name, ())) for name, file in MODEL_FILES.items()
}
_OWN_FILES = {
    "handler.py": Path(__file__).parent / "handler.py",
    "requirements.txt": Path(__file__).parent / "templates" / "requirements.txt",
}
_OWN_IMAGE_PROCESSORS = (CGRSegImageProcessor.__name__, CGRSegImageProcessorPil.__name__)
_MODEL_FOLDER = Path(__file__).parents[1] / "model"

_PICTURES = "pictures"
_PHOTO, _OVERLAY = ".jpg", "-classes.jpg"
_LONGEST_SIDE = 1024  # of a picture on a card, in pixels
_JPEG_QUALITY = 90

# Names of files that a push writes: weights in any number of parts, code of any version, and an evaluation.
_PUSHED_CODE = r"\w+_(cgrseg|efficientformerv2|efficientnet_lite)\.py"
_PUSHED = re.compile(
    rf"model(-\d{{5}}-of-\d{{5}})?\.safetensors(\.index\.json)?|{_PUSHED_CODE}|"
    + "|".join(map(re.escape, (*_OWN_FILES, REPORT, *_REPORT_FILES)))
)
_PUSHED_IN_EXPORT = re.compile(
    "|".join((_PUSHED_CODE, *(re.escape(name) for names in _EXPORT_FILES.values() for name in names)))
)


def stage_folder(
    source: Path,
    target: Path,
    repo_id: str,
    *,
    revision: str | None = None,
    report: Path | None = None,
    exports: Sequence[Path] = (),
    pictures: Sequence[Path] = (),
    picture_credit: str = "",
    trust_remote_code: bool = False,
) -> None:
    """
    Fill an empty folder with what goes to the Hub, without the overlays of pictures; see [`push_folder`] for the
    arguments.

    Raises:
        ValueError: If something is not what it should be, or belongs to another model.
    """
    _check_model_folder(source)
    card = read_card(source)
    weights = digest_weights(source)
    check_card_weights(source, weights)
    if pictures and not picture_credit.strip():
        raise ValueError("Pictures need picture_credit (--picture-credit): whose they are, and under which licence.")
    for pattern in _MODEL_FILES:
        for file in source.glob(pattern):
            _copy_inside(file, source, target)
    _stage_code(source, target, trust_remote_code)
    id2label = read_id2label(source)
    if report is not None or (source / REPORT).is_file():
        stage_report(report or source, source, target, repo_id, id2label, weights)
    export_lines = [stage_export(folder, target, id2label, trust_remote_code) for folder in exports]
    overlays = _stage_pictures(target, pictures)
    has_code = any(file.name not in _OWN_FILES for file in target.glob("*.py"))
    text = extend_card(card, repo_id, revision, export_lines, overlays, picture_credit.strip(), has_code)
    (target / CARD_FILE).write_text(text, encoding="utf-8")


def _check_model_folder(folder: Path) -> None:
    expected = "push expects a folder that save_pretrained or `cgrseg train` wrote, such as runs/mine/best"
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: {expected}.")
    if is_export(folder):
        raise ValueError(f"{folder} is an export: push the model that it was made from, and add --exports {folder}.")
    missing = [name for name in (CONFIG, IMAGE_PROCESSOR) if not (folder / name).is_file()]
    if not list(folder.glob("model*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        raise ValueError(f"{folder} is not a model's folder, it has no {' and no '.join(missing)}: {expected}.")


def _copy_inside(file: Path, folder: Path, target: Path) -> None:
    """Copy a file, but no link out of its folder: whoever made the link would choose which file is published."""
    allowed, real = folder.resolve(), file.resolve()
    if allowed.parent.name == "snapshots":  # the Hub's cache, whose files are links to those in blobs
        allowed = allowed.parents[1]
    if not real.is_relative_to(allowed):
        raise ValueError(
            f"{file} is a link to {real}, outside of the folder, and would publish that: put the file itself there, or "
            "remove the link."
        )
    shutil.copy2(file, target / file.name)


def _stage_code(source: Path, target: Path, trust_remote_code: bool = False, *, has_weights: bool = True) -> None:
    """
    Put a model's code beside its settings, with the handler.py and requirements.txt of Inference Endpoints.

    CGRSeg's code is that of this package, whatever lies in the folder: it may be a stranger's, and a push runs what it
    sends. A handler.py or requirements.txt that differs from this version's may be somebody's work: it is refused and
    never replaced.

    An export (`has_weights=False`) needs neither the model's code nor these two.
    """
    if has_weights:
        for own in _OWN_FILES.values():
            shutil.copy2(own, target)
    code = sorted({*source.glob("*.py"), *(source / name for name in _OWN_FILES if (source / name).is_file())})
    if trust_remote_code:
        for file in code:
            _copy_inside(file, source, target)
    foreign = []
    for name, classes in (
        (CONFIG, (CGRSegConfig, CGRSegForSemanticSegmentation) if has_weights else (CGRSegConfig,)),
        (IMAGE_PROCESSOR, (CGRSegImageProcessor,)),
    ):
        settings = read_json(target / name)
        own_map = _find_own_auto_map(settings)
        if own_map is not None and not (trust_remote_code and "auto_map" in settings):
            settings["auto_map"] = own_map
            write_json(target / name, settings)
            for one in classes:
                custom_object_save(one, target)
        keys = ("auto_map", "custom_pipelines")  # by these transformers finds code
        foreign += [f"{key} in {name}" for key in keys if settings.get(key) and settings[key] != own_map]
    foreign = [file.name for file in code if not _is_own(file, target)] + foreign
    if foreign and not trust_remote_code:
        raise ValueError(
            f"{source} has code that is not of this version of cgrseg_hf: {', '.join(foreign)}. A push runs it on "
            "this computer as you, and publishes it: read it, and then add --trust-remote-code "
            "(trust_remote_code=True); or remove it from the folder, and the code of cgrseg_hf is sent instead."
        )


def _find_own_auto_map(settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where transformers finds the classes of settings, if they are classes of this package."""
    own_map = None
    if settings.get("model_type") == CGRSegConfig.model_type:
        own_map = CGRSegConfig().auto_map
    elif settings.get("image_processor_type") in _OWN_IMAGE_PROCESSORS:
        own_map = CGRSegImageProcessorPil().to_dict()["auto_map"]
    return own_map and json.loads(json.dumps(own_map))


def _is_own(file: Path, target: Path) -> bool:
    """Check whether a file of code is this package's, or was staged as this package has it."""
    if file.name in _OWN_FILES:
        return file.read_bytes() == _OWN_FILES[file.name].read_bytes()
    staged, own = target / file.name, _MODEL_FOLDER / file.name
    return staged.is_file() and own.is_file() and staged.read_bytes() == own.read_bytes()


def stage_report(
    report: Path, source: Path, target: Path, repo_id: str, id2label: Mapping[int, str], weights: Mapping[str, str]
) -> None:
    """
    Copy an evaluation of the model in `source`, without the place of the data and without any of its images.

    Raises:
        ValueError: If there is no report, or it is of other classes or of weights with other checksums.
    """
    path = report / REPORT if report.is_dir() else report
    if not path.is_file():
        raise ValueError(f"There is no {path}: --report expects the folder that `cgrseg evaluate` wrote.")
    content = read_json(path)
    check_report(content, source, id2label, path, weights)
    write_json(target / REPORT, {**without_sources(content), "model": repo_id})
    for name in _REPORT_FILES:
        if (path.parent / name).is_file():
            _copy_inside(path.parent / name, path.parent, target)


def stage_export(folder: Path, target: Path, id2label: Mapping[int, str], trust_remote_code: bool = False) -> str:
    """
    Copy the files that an export wrote into a folder of the same name, and nothing else that lies beside them.

    Returns:
        `str`: the line of the card about it.

    Raises:
        ValueError: If it is not an export, it has other classes, its name is taken or not allowed, or it has code that
            is not this package's and not trusted.
    """
    if not is_export(folder):
        raise ValueError(f"{folder} has no {EXPORT_FILE}: --exports expects folders that `cgrseg export` wrote.")
    name, settings = folder.resolve().name, read_settings(folder)
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII) or name == _PICTURES or (target / name).exists():
        raise ValueError(
            f"The export {folder} cannot be a folder {name!r} of the repo: rename it to a name that no other has, of "
            "letters, digits, '.', '-' and '_'."
        )
    files = [folder / one for one in _EXPORT_FILES[settings.format] if (folder / one).is_file()]
    if missing := {settings.file, CONFIG, IMAGE_PROCESSOR} - {file.name for file in files}:
        raise ValueError(f"The export {folder} has no {' and no '.join(sorted(missing))}: export the model again.")
    if read_id2label(folder) != id2label:
        raise ValueError(f"The export {folder} is of a model with other classes.")
    (target / name).mkdir()
    for file in files:
        _copy_inside(file, folder, target / name)
    _stage_code(folder, target / name, trust_remote_code, has_weights=False)
    return f"`{name}`: {settings.format} in {settings.precision}; `export.json` says what goes in and comes out."


def _stage_pictures(target: Path, pictures: Sequence[Path]) -> list[str]:
    """Copy photos for the card, without their EXIF data (place and time); the names of their overlays."""
    overlays: list[str] = []
    for path in pictures:
        photo_file, overlay_file = (target / _PICTURES / f"{path.stem}{ending}" for ending in (_PHOTO, _OVERLAY))
        overlay = f"{_PICTURES}/{overlay_file.name}"
        if overlay in overlays or photo_file.exists() or f"{_PICTURES}/{photo_file.name}" in overlays:
            raise ValueError(f"{path} has the name of another picture on the card: rename one of them.")
        overlays.append(overlay)
        photo = to_photo(read_image(path))
        photo.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        photo_file.parent.mkdir(exist_ok=True)
        photo.save(photo_file, quality=_JPEG_QUALITY)
    return overlays


def find_photos(folder: Path) -> list[Path]:
    """The photos for the card in a staged folder."""
    return sorted((folder / _PICTURES).glob(f"*{_PHOTO}"))


def draw_overlays(folder: Path, photos: Sequence[Path], label_maps: Sequence[np.ndarray]) -> None:
    """Write beside each photo its overlay with its classes, from an int32 label map of the photo's size."""
    id2label = read_id2label(folder)
    for path, label_map in zip(photos, label_maps, strict=True):
        with Image.open(path) as photo:
            overlay = draw_overlay(photo, label_map, id2label, ignore_index=-1)
        overlay.save(path.with_name(f"{path.stem}{_OVERLAY}"), quality=_JPEG_QUALITY)


def find_leftovers(present: Collection[str], sent: Collection[str]) -> list[str]:
    """
    Find the files of an earlier push that this one does not write: they belong to other weights.

    They are recognised by their names: the model's weights, this package's code, the handler and its requirements, the
    evaluation, pictures of a photo with its overlay, and in folders with an export.json the files of an export.

    Args:
        present (`Collection[str]`): Names of the files in the repo, folders with slashes.
        sent (`Collection[str]`): Names of the files that the push writes.
    """

    present = set(present)

    def is_pushed(file: str) -> bool:
        folder, _, name = file.rpartition("/")
        if not folder:
            return _PUSHED.fullmatch(name) is not None
        if folder == _PICTURES:
            stems = [file.removesuffix(ending) for ending in (_PHOTO, _OVERLAY) if file.endswith(ending)]
            return any({f"{stem}{_PHOTO}", f"{stem}{_OVERLAY}"} <= present for stem in stems)
        is_export_folder = "/" not in folder and f"{folder}/{EXPORT_FILE}" in present
        return is_export_folder and _PUSHED_IN_EXPORT.fullmatch(name) is not None

    return sorted(file for file in present - set(sent) if is_pushed(file))


def read_id2label(folder: Path) -> dict[int, str]:
    """Read the names of a model's classes by id, without any of its code."""
    config = PreTrainedConfig.from_dict(read_json(folder / CONFIG))
    return dict(sorted(config.id2label.items()))


def read_json(path: Path) -> dict[str, Any]:
    """
    Read a JSON object.

    Raises:
        ValueError: If the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}: names and values in braces are expected.")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in lines, as people read it."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
