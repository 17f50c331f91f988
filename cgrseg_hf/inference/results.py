# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What is written for each photo of many, and where: no two photos' files have the same path."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.layouts import list_pictures

if TYPE_CHECKING:
    from .segmentation import Segmentation

# Overlays are for looking at: of larger pictures every second, third, ... pixel is shown.
_LARGEST_OVERLAY = 4096

# Bytes of a file's name, at most, that its results' names begin with: file systems take 255.
_LONGEST_NAME = 200
# Bytes of a class's name, at most, in the name of its heat map.
_LONGEST_CLASS = 32


@dataclass
class Job:
    """
    A photo or video, and what its results' paths begin with.

    Args:
        photo (`Path`): The photo or video.
        target (`Path`): A path in the output folder, to whose name `_overlay.jpg` and the like are added.
    """

    photo: Path
    target: Path


def plan_jobs(photos: Sequence[Path], output: Path) -> list[Job]:
    """
    Where each photo's results go: in the output folder, under its own name, each elsewhere.

    Args:
        photos (`Sequence[Path]`):
            Photos, videos and folders of photos. Nothing is opened, and what does not exist has a job too.
        output (`Path`):
            The folder of the results. Pictures in it are results of an earlier run.

    Raises:
        ValueError: If a folder holds no pictures, or there are none but those in the output folder.
    """
    places: dict[Path, Path] = {}  # below the output folder, by photo
    seen: set[Path] = set()
    for given in photos:
        for photo, place in _list_places(given, output):
            if (real := _real_path(photo)) not in seen:
                seen.add(real)
                places[photo] = place
    if not places:
        raise ValueError(f"There are no photos but those in the output folder {output}.")
    same_name = Counter(_comparable(_without_ending(place)) for place in places.values())
    jobs: list[Job] = []
    taken: set[str] = set()
    for photo, place in places.items():
        name = _without_ending(place)
        if same_name[_comparable(name)] > 1:
            name = place
        name = name.with_name(_shorten(name.name))
        unique, count = name, 1
        while _comparable(unique) in taken:
            count += 1
            unique = name.with_name(f"{name.name}-{count}")
        taken.add(_comparable(unique))
        jobs.append(Job(photo, output / unique))
    return jobs


def _list_places(given: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Photos, and where they would lie in the output folder; results of an earlier run are no photos."""
    if not given.is_dir():
        yield given, Path(given.name)
        return
    for file in list_pictures(given):
        if not _real_path(file).is_relative_to(_real_path(output)):
            yield file, given.resolve().name / file.relative_to(given)


def _real_path(path: Path) -> Path:
    """Where a path leads to; where its links go round in circles, which Path.resolve refuses, to one of them."""
    return Path(os.path.realpath(path))


def _shorten(name: str, longest: int = _LONGEST_NAME) -> str:
    """A name, or as much of its beginning as has so many bytes; by default, as the results' endings leave room for."""
    while len(os.fsencode(name)) > longest:
        name = name[:-1]
    return name


def _without_ending(path: Path) -> Path:
    """A path without its file's ending, which files named by dots keep: "..jpg"."""
    return path.with_suffix("") if path.stem.strip(".") else path


def _comparable(path: Path) -> str:
    """The same for paths that are one file where upper and lower case are the same."""
    return str(path).casefold()


def write_results(segmentation: "Segmentation", target: Path, heat_maps: Sequence[str] = ()) -> dict[str, Any]:
    """
    Write one photo's results: the overlay, the classes, their areas, and heat maps.

    Args:
        segmentation ([`Segmentation`]):
            What the photo was segmented into; the photo is read again.
        target (`Path`):
            What the paths begin with: `_overlay.jpg`, `_classes.png`, `_areas.json`, `_heat-CLASS.jpg`.
        heat_maps (`Sequence[str]`, *optional*):
            Names of classes; they need the logits.

    Returns:
        `dict[str, Any]`: what was written where, and the areas.

    Raises:
        UnreadableImageError: If the photo cannot be read again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    overlay = target.with_name(f"{target.name}_overlay.jpg")
    segmentation.overlay(max_side=_LARGEST_OVERLAY).save(overlay, quality=90)
    areas = segmentation.save(target.with_name(f"{target.name}_areas.json"))
    classes = segmentation.file or segmentation.save(target.with_name(f"{target.name}_classes.png"))
    files: dict[str, Any] = {"overlay": str(overlay), "classes": str(classes), "areas": str(areas)}
    if heat_maps:
        files["heat_maps"] = {name: str(_write_heat_map(segmentation, target, name)) for name in heat_maps}
    return {"source": str(segmentation.source), "files": files, **segmentation.to_dict()}


def _write_heat_map(segmentation: "Segmentation", target: Path, class_name: str) -> Path:
    from ..visualization.heat_maps import find_class

    # Whoever made the model chose the class's name, and no name may lead out of the folder.
    part = _shorten(re.sub(r"[^\w-]+", "-", class_name), _LONGEST_CLASS)
    if part != class_name:
        part = f"{part}-{find_class(class_name, segmentation.id2label)}"
    file = target.with_name(f"{target.name}_heat-{part}.jpg")
    segmentation.heat_map(class_name, max_side=_LARGEST_OVERLAY).save(file, quality=90)
    return file
