# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Where the results of many photos and videos go: no two of their files have the same path."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.layouts import list_images

# Bytes of a file's name, at most, that its results' names begin with: file systems allow 255.
_LONGEST_NAME = 200
# Bytes of a class's name, at most, in the name of its heat map.
_LONGEST_CLASS = 32


@dataclass
class Job:
    """
    A photo or video, and the beginning of its results' paths.

    Args:
        source (`Path`): The photo or video.
        target (`Path`): A path in the output folder, to whose name `_overlay.jpg` and the like are added.
    """

    source: Path
    target: Path


def plan_jobs(sources: Sequence[Path], output: Path) -> list[Job]:
    """
    Choose the paths of results: in the output folder, under the name of the photo or video, each different.

    Args:
        sources (`Sequence[Path]`):
            Photos, videos and folders of photos. Nothing is opened, and what does not exist has a job too.
        output (`Path`):
            The folder of the results. Images in it are results of an earlier run.

    Raises:
        ValueError: If a folder holds no images, or there are none but those in the output folder.
    """
    places: dict[Path, Path] = {}  # below the output folder, by source
    seen: set[Path] = set()
    for given in sources:
        for source, place in _list_places(given, output):
            if (real := _real_path(source)) not in seen:
                seen.add(real)
                places[source] = place
    if not places:
        raise ValueError(f"There are no photos but those in the output folder {output}.")
    same_name = Counter(_comparable(_without_ending(place)) for place in places.values())
    jobs: list[Job] = []
    taken: set[str] = set()
    for source, place in places.items():
        name = _without_ending(place)
        if same_name[_comparable(name)] > 1:
            name = place
        name = name.with_name(_shorten(name.name, _LONGEST_NAME))
        unique, count = name, 1
        while _comparable(unique) in taken:
            count += 1
            unique = name.with_name(f"{name.name}-{count}")
        taken.add(_comparable(unique))
        jobs.append(Job(source, output / unique))
    return jobs


def get_result_path(target: Path, ending: str) -> Path:
    """Return the path of one of a job's results by its ending, such as `overlay.jpg`."""
    return target.with_name(f"{target.name}_{ending}")


def get_heat_map_path(target: Path, class_name: str, class_id: int) -> Path:
    """Return the path of a class's heat map; no class name, which strangers choose, leads out of the folder."""
    part = _shorten(re.sub(r"[^\w-]+", "-", class_name), _LONGEST_CLASS)
    return get_result_path(target, f"heat-{part if part == class_name else f'{part}-{class_id}'}.jpg")


def _list_places(given: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield sources and their places in the output folder; results of an earlier run are left out."""
    if not given.is_dir():
        yield given, Path(given.name)
        return
    for file in list_images(given):
        if not _real_path(file).is_relative_to(_real_path(output)):
            yield file, given.resolve().name / file.relative_to(given)


def _real_path(path: Path) -> Path:
    """Follow links; those that go round in circles, which Path.resolve refuses, lead to one of themselves."""
    return Path(os.path.realpath(path))


def _shorten(name: str, num_bytes: int) -> str:
    """Return a name, or as much of its beginning as fits in so many bytes."""
    while len(os.fsencode(name)) > num_bytes:
        name = name[:-1]
    return name


def _without_ending(path: Path) -> Path:
    """Remove a file's ending; names of dots alone keep it: "..jpg"."""
    return path.with_suffix("") if path.stem.strip(".") else path


def _comparable(path: Path) -> str:
    """Return the same text for paths that are one file where upper and lower case are the same."""
    return str(path).casefold()
