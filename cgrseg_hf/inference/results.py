# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Segment many photos and videos, and write for each an overlay, the classes, their areas and heat maps."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..model.image_reading_cgrseg import UnreadableImageError
from ..utils.messages import printable
from ..visualization.heat_maps import find_class
from .pipeline import Failure, attempt, map_ahead
from .result_paths import Job, get_heat_map_path, get_result_path
from .segmentation import Segmentation
from .segmenter import Segmenter
from .tiff_files import find_georeference
from .videos import Video, VideoWriter, is_video

# Overlays are for looking at: of larger images every second, third, ... pixel is shown.
_LARGEST_OVERLAY = 4096
# With windows, label maps of these are written strip by strip as TIFF too; others are in memory as a whole anyway.
_READ_IN_BANDS = (".tif", ".tiff", ".npy")
# Names of the classes of a video's frames.
_FRAME = re.compile(r"\d{6,}\.png")


def segment_jobs(
    segmenter: Segmenter,
    jobs: Sequence[Job],
    on_error: Callable[[Any, UnreadableImageError], None],
    *,
    batch_size: int = 1,
    heat_maps: Sequence[str] = (),
    windows: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """
    Segment photos and videos, and write their results.

    Args:
        segmenter ([`Segmenter`]):
            The model.
        jobs (`Sequence[Job]`):
            The photos and videos, and where their results go.
        on_error (`Callable`):
            Called with each photo or video that cannot be read and the error; the others go on.
        batch_size (`int`, *optional*, defaults to 1):
            Photos or windows that go through the network together.
        heat_maps (`Sequence[str]`, *optional*):
            Classes whose heat maps are drawn over photos; not with windows.
        windows (`Mapping[str, Any]`, *optional*):
            `tile`, `overlap` and `scale` of the segmenter. The label maps of TIFF and `.npy` files are then written as
            TIFF, in strips.

    Returns:
        `Iterator[dict[str, Any]]`: the files and areas of each photo and video, photos first.

    Raises:
        ValueError: If the model has no class of that name.
    """
    for name in heat_maps:
        find_class(name, segmenter.id2label)
    videos = [job for job in jobs if is_video(job.source)]
    photos = [job for job in jobs if not is_video(job.source)]
    options = {"batch_size": batch_size, **(windows or {})}
    if windows is None:
        targets = {job.source: job.target for job in photos}
        segmentations = segmenter(
            iter(targets), on_error=on_error, return_logits=bool(heat_maps), return_photo=True, **options
        )
        # The next photo is segmented while the files of the last one are written.
        written = map_ahead(lambda one: write_results(one, targets[one.source], heat_maps), segmentations)
    else:
        progress = len(photos) == 1
        written = _one_by_one(lambda job: _segment_in_windows(segmenter, job, progress, options), photos, on_error)
    yield from tqdm(written, total=len(photos), unit="photo", disable=len(photos) < 2)
    yield from _one_by_one(lambda job: _segment_video(segmenter, job, options), videos, on_error)


def _one_by_one(
    segment: Callable[[Job], dict[str, Any]],
    jobs: Sequence[Job],
    on_error: Callable[[Any, UnreadableImageError], None],
) -> Iterator[dict[str, Any]]:
    for job in jobs:
        result = attempt(job.source, segment, job)
        if isinstance(result, Failure):
            on_error(result.source, result.error)
        else:
            yield result


def _segment_in_windows(segmenter: Segmenter, job: Job, progress: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """Segment a photo of any size and write its results."""
    output = None
    if job.source.suffix.lower() in _READ_IN_BANDS:
        output = get_result_path(job.target, "classes.tif")
        output.parent.mkdir(parents=True, exist_ok=True)
    return write_results(
        segmenter(job.source, output=output, return_photo=True, progress=progress, **options), job.target
    )


def write_results(segmentation: Segmentation, target: Path, heat_maps: Sequence[str] = ()) -> dict[str, Any]:
    """
    Write the results of one photo: the overlay, the classes, their areas, and heat maps.

    Args:
        segmentation ([`Segmentation`]):
            The photo's segmentation; its photo is read again if it was not kept.
        target (`Path`):
            The beginning of the paths: `_overlay.jpg`, `_classes.png`, `_areas.json`, `_heat-CLASS.jpg` follow.
        heat_maps (`Sequence[str]`, *optional*):
            Names of classes; they need the logits.

    Returns:
        `dict[str, Any]`: the paths of the files, and the areas.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    overlay = get_result_path(target, "overlay.jpg")
    segmentation.overlay(max_side=_LARGEST_OVERLAY).save(overlay, quality=90)
    areas = segmentation.save(get_result_path(target, "areas.json"))
    # Only TIFF keeps coordinates.
    ending = "tif" if find_georeference(segmentation.source, len(segmentation.id2label)) else "png"
    classes = segmentation.file or segmentation.save(get_result_path(target, f"classes.{ending}"))
    files: dict[str, Any] = {"overlay": str(overlay), "classes": str(classes), "areas": str(areas)}
    for name in heat_maps:
        path = get_heat_map_path(target, name, find_class(name, segmentation.id2label))
        segmentation.heat_map(name, max_side=_LARGEST_OVERLAY).save(path, quality=90)
        files.setdefault("heat_maps", {})[name] = str(path)
    return {"source": str(segmentation.source), "files": files, **segmentation.to_dict()}


def _segment_video(segmenter: Segmenter, job: Job, options: Mapping[str, Any]) -> dict[str, Any]:
    """
    Segment a video and write its results: the overlay, a folder with each frame's classes, and all areas.

    Where the video is damaged from some frame on, the results of the frames before it are written.
    """
    video = Video(job.source)
    overlay, classes, areas = (
        get_result_path(job.target, ending) for ending in ("overlay.mp4", "classes", "areas.json")
    )
    classes.mkdir(parents=True, exist_ok=True)
    for file in classes.glob("*.png"):
        if _FRAME.fullmatch(file.name):  # of an earlier video, perhaps a longer one
            file.unlink()
    frames: list[dict[str, Any]] = []

    def draw(numbered: tuple[int, Segmentation]) -> tuple[np.ndarray, dict[str, float]]:
        index, segmentation = numbered
        segmentation.save(classes / f"{index:06}.png")
        return np.asarray(segmentation.overlay(legend=False)), segmentation.area_shares

    segmentations = tqdm(
        segmenter(video, **options), desc=printable(video.path.name), total=video.num_frames, unit="frame"
    )
    try:
        with VideoWriter(overlay, video.frame_rate) as writer:
            # The next frame is segmented while the last one is drawn.
            for image, shares in map_ahead(draw, enumerate(segmentations)):
                time = video.times[len(frames)]
                writer.write(image, time)
                frames.append({"time": round(time, 6), "shares": shares})
    finally:
        _write_video_areas(areas, video, frames)
    files = {"overlay": str(overlay), "classes": str(classes), "areas": str(areas)}
    return {"source": str(video.path), "files": files, "num_frames": len(frames)}


def _write_video_areas(path: Path, video: Video, frames: list[dict[str, Any]]) -> None:
    """Write the shares of each frame, and their means over the video, the largest first."""
    totals: Counter[str] = Counter()
    for frame in frames:
        totals.update(frame["shares"])
    areas = {
        "frame_rate": float(video.frame_rate),
        "num_frames": len(frames),
        "mean_shares": {name: total / len(frames) for name, total in totals.most_common()},
        "frames": frames,
    }
    path.write_text(json.dumps(areas, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
