# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What `cgrseg predict` writes of a video."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.messages import printable

# What a frame's classes are called.
_FRAME = re.compile(r"\d{6,}\.png")

if TYPE_CHECKING:
    from ..inference import Segmentation, Segmenter, Video


def segment_video(segmenter: "Segmenter", video: "Video", target: Path, **options: Any) -> dict[str, Any]:
    """
    Segment a video frame by frame.

    Args:
        segmenter ([`Segmenter`]): What segments.
        video ([`Video`]): The video.
        target (`Path`): What the paths of the results begin with: `_overlay.mp4`; the folder `_classes` with an indexed
            PNG for each frame; `_areas.json` with each frame's time in seconds and its classes' shares.
        **options: What the segmenter takes besides.

    Returns:
        `dict[str, Any]`: what was written where, and how many frames.

    Raises:
        UnreadableImageError: If the video is broken from some frame on; what comes before is written.
    """
    from tqdm.auto import tqdm

    from ..inference import VideoWriter
    from ..inference.threads import map_ahead

    overlay, areas = target.with_name(f"{target.name}_overlay.mp4"), target.with_name(f"{target.name}_areas.json")
    classes = target.with_name(f"{target.name}_classes")
    classes.mkdir(parents=True, exist_ok=True)
    for file in classes.glob("*.png"):
        if _FRAME.fullmatch(file.name):  # of an earlier video, perhaps a longer one
            file.unlink()
    frames: list[dict[str, Any]] = []

    def draw(numbered: "tuple[int, Segmentation]") -> "tuple[np.ndarray, dict[str, float]]":
        index, segmentation = numbered
        segmentation.save(classes / f"{index:06}.png")
        return np.asarray(segmentation.overlay(legend=False)), segmentation.area_shares

    with VideoWriter(overlay, video.frame_rate) as writer:
        segmentations = tqdm(
            segmenter(video, **options), desc=printable(video.path.name), total=video.num_frames, unit="frame"
        )
        try:
            # The next frame is segmented while the last one is drawn.
            for picture, shares in map_ahead(draw, enumerate(segmentations)):
                time = video.times[len(frames)]
                writer.write(picture, time)
                frames.append({"time": round(time, 6), "shares": shares})
        finally:
            _write_areas(areas, video, frames, segmenter)
    files = {"overlay": str(overlay), "classes": str(classes), "areas": str(areas)}
    return {"source": str(video.path), "files": files, "num_frames": len(frames)}


def _write_areas(path: Path, video: "Video", frames: list[dict[str, Any]], segmenter: "Segmenter") -> None:
    """Shares of all frames together, the largest first, and of each."""
    total = {name: sum(one["shares"].get(name, 0.0) for one in frames) for name in segmenter.id2label.values()}
    mean = {name: share / len(frames) for name, share in total.items() if share}
    areas = {
        "frame_rate": float(video.frame_rate),
        "num_frames": len(frames),
        "mean_shares": dict(sorted(mean.items(), key=lambda one: -one[1])),
        "frames": frames,
    }
    path.write_text(json.dumps(areas, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
