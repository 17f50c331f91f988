# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Puts together the folder that goes to the Hub: what is named here, and nothing else that lies beside it."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import PreTrainedConfig

from ..engines.export_settings import EXPORT_FILE, is_export, read_settings
from ..evaluation.report import check_report, without_sources
from ..model.image_reading_cgrseg import open_picture, to_photo
from ..visualization import draw_overlay
from .cards import CARD_FILE, extend_card, read_card
from .code import HANDLER, stage_code
from .files import (
    CONFIG,
    EXPORT_FILES,
    IMAGE_PROCESSOR,
    PICTURES,
    REPORT,
    REPORT_FILES,
    check_inside,
    read_json,
    write_json,
)
from .model_card import check_weights
from .repos import PICTURE_ENDINGS

_MODEL_FILES = (CONFIG, IMAGE_PROCESSOR, "model*.safetensors", "model.safetensors.index.json", "LICENSE*")
_LONGEST_SIDE = 1024  # of a picture on a card, in pixels
_JPEG_QUALITY = 90


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
    Fill an empty folder with what goes to the Hub, but for the overlays of pictures; see [`push_folder`] for the
    arguments.

    Raises:
        ValueError: If something is not what it should be, or of another model.
    """
    check_model_folder(source)
    card = read_card(source)
    check_weights(source / CARD_FILE, source)
    if pictures and not picture_credit.strip():
        raise ValueError("Pictures need picture_credit (--picture-credit): whose they are, and under which licence.")
    for pattern in _MODEL_FILES:
        for file in source.glob(pattern):
            check_inside(file, source)
            shutil.copy2(file, target / file.name)
    stage_code(source, target, trust_remote_code)
    id2label = read_id2label(source)
    if report is not None or (source / REPORT).is_file():
        stage_report(report or source, source, target, repo_id, id2label)
    exported = [stage_export(folder, target, id2label, trust_remote_code) for folder in exports]
    overlays = stage_pictures(target, pictures)
    has_code = any(file.name != HANDLER for file in target.glob("*.py"))
    text = extend_card(card, repo_id, revision, exported, overlays, picture_credit.strip(), has_code)
    (target / CARD_FILE).write_text(text, encoding="utf-8")


def check_model_folder(folder: Path) -> None:
    """
    Refuse what is no folder of a model with its image processor.

    Raises:
        ValueError: With what is missing.
    """
    what = "push takes a folder that save_pretrained or `cgrseg train` wrote, such as runs/mine/best"
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}: {what}.")
    if is_export(folder):
        raise ValueError(f"{folder} is an export: push the model that it was made from, and add --exports {folder}.")
    missing = [name for name in (CONFIG, IMAGE_PROCESSOR) if not (folder / name).is_file()]
    if not list(folder.glob("model*.safetensors")):
        missing.append("model.safetensors")
    if missing:
        raise ValueError(f"{folder} is no model's folder, it has no {' and no '.join(missing)}: {what}.")


def stage_report(report: Path, source: Path, target: Path, repo_id: str, id2label: dict[int, str]) -> None:
    """Copy an evaluation of the model in `source`, without where the data lay and without any of its images."""
    path = report / REPORT if report.is_dir() else report
    if not path.is_file():
        raise ValueError(f"There is no {path}: --report takes the folder that `cgrseg evaluate` wrote.")
    content = read_json(path)
    check_report(content, source, id2label, path)
    write_json(target / REPORT, {**without_sources(content), "model": repo_id})
    for name in REPORT_FILES:
        if (path.parent / name).is_file():
            check_inside(path.parent / name, path.parent)
            shutil.copy2(path.parent / name, target / name)


def stage_export(folder: Path, target: Path, id2label: dict[int, str], trust_remote_code: bool = False) -> str:
    """
    Copy what an export wrote below its folder's name, and nothing else that lies there; the line of the card about it.

    Raises:
        ValueError: If it is no export, or of a model with other classes, its name is taken or none for a repo, or it
            brings code that is not of this package, and nobody vouches for it.
    """
    if not is_export(folder):
        raise ValueError(f"{folder} has no {EXPORT_FILE}: --exports takes folders that `cgrseg export` wrote.")
    name, settings = folder.resolve().name, read_settings(folder)
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII) or name == PICTURES or (target / name).exists():
        raise ValueError(
            f"The export {folder} cannot be a folder {name!r} of the repo: rename it to a name that no other has, of "
            "letters, digits, '.', '-' and '_'."
        )
    files = [folder / one for one in EXPORT_FILES[settings.format] if (folder / one).is_file()]
    for file in files:
        check_inside(file, folder)
    if missing := {settings.file, CONFIG, IMAGE_PROCESSOR} - {file.name for file in files}:
        raise ValueError(f"The export {folder} has no {' and no '.join(sorted(missing))}: export the model again.")
    if read_id2label(folder) != id2label:
        raise ValueError(f"The export {folder} is of a model with other classes.")
    (target / name).mkdir()
    for file in files:
        shutil.copy2(file, target / name)
    stage_code(folder, target / name, trust_remote_code, has_weights=False)
    return f"`{name}`: {settings.format} in {settings.precision}; `export.json` says what goes in and comes out."


def stage_pictures(target: Path, pictures: Sequence[Path]) -> list[str]:
    """
    Copy photos for the card, which lose their EXIF data, with place and time.

    Returns:
        `list[str]`: the names of their overlays, which `draw_overlays` makes once the photos are segmented.
    """
    if not pictures:
        return []
    (target / PICTURES).mkdir()
    taken: set[str] = set()
    overlays = []
    for path in pictures:
        photo_name, overlay_name = (f"{PICTURES}/{path.stem}{ending}" for ending in PICTURE_ENDINGS)
        if taken & {photo_name, overlay_name}:
            raise ValueError(f"{path} would take another picture's name on the card: rename one of them.")
        taken |= {photo_name, overlay_name}
        photo = to_photo(open_picture(path))
        photo.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        photo.save(target / photo_name, quality=_JPEG_QUALITY)
        overlays.append(overlay_name)
    return overlays


def find_photos(folder: Path) -> list[Path]:
    """The photos that `stage_pictures` put into a folder."""
    return sorted((folder / PICTURES).glob(f"*{PICTURE_ENDINGS[0]}"))


def draw_overlays(folder: Path, photos: Sequence[Path], label_maps: Sequence[np.ndarray]) -> None:
    """Write beside each photo how its classes, int32 of its size, lie over it."""
    id2label = read_id2label(folder)
    for path, label_map in zip(photos, label_maps, strict=True):
        with Image.open(path) as photo:
            overlay = draw_overlay(photo, label_map, id2label, ignore_index=-1)
        overlay.save(path.with_name(f"{path.stem}{PICTURE_ENDINGS[1]}"), quality=_JPEG_QUALITY)


def read_id2label(folder: Path) -> dict[int, str]:
    """The names of a model's classes by number; none of its code is needed to read them."""
    config = PreTrainedConfig.from_dict(read_json(folder / CONFIG))
    return dict(sorted(config.id2label.items()))
