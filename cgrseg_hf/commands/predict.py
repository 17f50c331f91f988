# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg predict`."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..pretrained import DEFAULT_MODEL
from ..terminal import echo
from .data_options import DeviceOption, EngineOption, override_size, refuse_options

if TYPE_CHECKING:
    from ..inference import Segmentation, Segmenter

# Overlays are for looking at: of larger pictures every second, third, ... pixel is shown.
_LARGEST_OVERLAY = 4096

# Bytes of a file's name, at most, that its results' names begin with: file systems take 255.
_LONGEST_NAME = 200
# Bytes of a class's name, at most, in the name of its heat map.
_LONGEST_CLASS = 32

# With windows, label maps of these are written strip by strip as TIFF too; others are in memory as a whole anyway.
_READ_IN_BANDS = (".tif", ".tiff", ".npy")


def predict(
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, and videos.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder of the results; with --cluster it may be on a bucket.")
    ] = "runs/predict",
    model: Annotated[
        str, typer.Option(help="Folder of a model or of an export, or a Hugging Face Hub id.", show_default="shipped")
    ] = str(DEFAULT_MODEL),
    engine: EngineOption = "auto",
    device: DeviceOption = None,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Type of the network's arithmetic.", show_default="float32, or the export's"),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Shorter side in pixels that photos are resized to.", show_default="the model's"),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(help="Run windows of so many pixels a side at the photos' own resolution, on files of any size."),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that windows share.", show_default="a quarter of --tile")
    ] = None,
    scale: Annotated[float, typer.Option(help="With --tile, resize photos by this factor first.")] = 1.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos or windows of one size run together.")] = 1,
    heat_map: Annotated[
        list[str] | None,
        typer.Option(
            help="Write NAME_heat-CLASS.jpg too: the photo with the probability of this class. May be repeated.",
            show_default=False,
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels that a photo may have.", show_default="89 million; with --tile any"),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Run on a Ray cluster: local, or its address. The one argument is then a folder of photos, of parquet "
            "files or of tar archives (WebDataset), here or on a bucket; results are parquet files, and a run that was "
            "ended goes on when it is started again.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print as JSON which files were written, the areas, and what failed.")
    ] = False,
) -> None:
    """
    Segment photos and videos: an overlay, the classes as an indexed PNG, and their areas as JSON for each.

    NAME_overlay.jpg, NAME_classes.png and NAME_areas.json lie in the output folder; those of a folder's photos in a
    folder of its name. Of a video there are NAME_overlay.mp4 and a folder NAME_classes with a PNG for each frame. With
    --tile, the classes of a TIFF file come as a TIFF file. What cannot be read is reported, the rest is segmented, and
    the exit code is 1.
    """
    of_windows = {"overlap": overlap, "scale": None if scale == 1 else scale}
    if cluster is not None:
        if len(photos) != 1:
            raise typer.BadParameter("One folder, or one parquet file or tar archive, goes to a cluster.")
        one_machine = {
            "device": device,
            "size": size,
            "tile": tile,
            "max-pixels": max_pixels,
            "heat-map": heat_map or None,
            "json": as_json or None,
        }
        refuse_options(one_machine | of_windows, " cannot be used with --cluster.")
        _predict_on_cluster(photos[0], output, model, cluster, engine, precision, batch_size)
        return

    if tile is None:
        refuse_options(of_windows, ": windows come with --tile, such as --tile 512.")
    else:
        refuse_options({"heat-map": heat_map or None}, " cannot be used with --tile.")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"--output {output} is a file: name a folder.")

    from tqdm.auto import tqdm

    from ..inference import Segmenter, UnreadablePictureError, Video, keep_freed_memory
    from ..inference.threads import map_ahead
    from ..inference.videos import import_av, is_video
    from ..visualization.heat_maps import find_class
    from .video_results import segment_video

    planned = _plan([Path(photo) for photo in photos], folder)
    jobs = [job for job in planned if not is_video(job.photo)]
    videos = [job for job in planned if is_video(job.photo)]
    if videos:
        refuse_options({"heat-map": heat_map or None}, " is for photos, not for videos.")
        import_av()
    keep_freed_memory()
    segmenter = Segmenter.from_pretrained(model, engine, device, precision, max_pixels=max_pixels)
    if size is not None:
        segmenter.image_processor.size = override_size(segmenter.image_processor.size, size)
    heat_maps = list(dict.fromkeys(heat_map or ()))
    for name in heat_maps:
        find_class(name, segmenter.id2label)
    failures: list[Exception] = []
    options: dict[str, Any] = {"batch_size": batch_size}
    if tile is None:
        paths = iter([job.photo for job in jobs])
        segmentations = segmenter(
            paths, on_error=lambda _, error: failures.append(error), return_logits=bool(heat_maps), **options
        )
    else:
        options |= {"tile": tile, "overlap": overlap, "scale": scale}
        segmentations = _segment_in_windows(segmenter, jobs, options, failures)
    targets = {job.photo: job.target for job in jobs}
    written: list[dict[str, Any]] = []
    with tqdm(total=len(jobs), unit="photo", disable=len(jobs) < 2) as bar:
        # The next photo is segmented while the files of the last one are written.
        for result in map_ahead(lambda one: _write(one, targets[one.source], heat_maps), segmentations):
            kept = failures if isinstance(result, Exception) else written
            kept.append(result)
            bar.update()
    for job in videos:
        try:
            written.append(segment_video(segmenter, Video(job.photo), job.target, **options))
        except UnreadablePictureError as error:
            failures.append(error)
    what = "photos and videos" if jobs and videos else "videos" if videos else "photos"
    done = f"{len(planned) - len(failures)} of {len(planned)} {what} are segmented"
    result = f"{done}. The overlays, classes and areas are in {output}"
    if as_json:
        result = json.dumps({"results": written, "errors": list(map(str, failures))}, ensure_ascii=False, indent=1)
    _report(failures, result)


def _report(failures: Sequence[object], result: str) -> None:
    """Say what failed, and in the last line where the results are."""
    for failure in failures:
        echo(failure, err=True, color="red")
    echo(result)
    if failures:
        raise typer.Exit(1)


def _predict_on_cluster(
    source: str, output: str, model: str, cluster: str, engine: str, precision: str | None, batch_size: int
) -> None:
    from ..cluster import segment_on_cluster

    result = segment_on_cluster(
        source,
        output,
        model,
        address=None if cluster == "local" else cluster,
        engine=engine,
        dtype=precision,
        batch_size=batch_size,
        progress=True,
    )
    done = f"{result.num_photos} photos were looked at, {len(result.errors)} of them could not be read"
    if result.num_shards_before:
        done += f"; {result.num_shards_before} of {result.num_shards} shards had been finished before"
    _report(list(result.errors.values()), f"{done}. The label maps and area shares are in {output}")


@dataclass
class _Job:
    """A photo, and what its results' paths begin with."""

    photo: Path
    target: Path


def _plan(photos: list[Path], output: Path) -> list[_Job]:
    """Where each photo's results go: in the output folder, under its own name, each elsewhere."""
    places: dict[Path, Path] = {}  # below the output folder, by photo
    seen: set[Path] = set()
    for given in photos:
        for photo, place in _list_places(given, output):
            if (real := _real_path(photo)) not in seen:
                seen.add(real)
                places[photo] = place
    if not places:
        raise typer.BadParameter(f"There are no photos but those in the output folder {output}.")
    same_name = Counter(_comparable(place.with_suffix("")) for place in places.values())
    jobs: list[_Job] = []
    taken: set[str] = set()
    for photo, place in places.items():
        name = place.with_suffix("")
        if same_name[_comparable(name)] > 1 or not name.name.strip("."):  # of "..jpg"
            name = place
        name = name.with_name(_shorten(name.name))
        unique, count = name, 1
        while _comparable(unique) in taken:
            count += 1
            unique = name.with_name(f"{name.name}-{count}")
        taken.add(_comparable(unique))
        jobs.append(_Job(photo, output / unique))
    return jobs


def _list_places(given: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """Photos, and where they would lie in the output folder; results of an earlier run are no photos."""
    from ..inference.pictures import list_pictures

    if not given.is_dir():
        yield given, Path(given.name)
        return
    try:
        files = list_pictures(given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    for file in files:
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


def _comparable(path: Path) -> str:
    """The same for paths that are one file where upper and lower case are the same."""
    return str(path).casefold()


def _segment_in_windows(
    segmenter: "Segmenter", jobs: list[_Job], windows: dict[str, Any], failures: list[Exception]
) -> "Iterator[Segmentation]":
    from ..inference import UnreadablePictureError

    for job in jobs:
        classes = None
        if job.photo.suffix.lower() in _READ_IN_BANDS:
            classes = job.target.with_name(f"{job.target.name}_classes.tif")
            classes.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield segmenter(job.photo, output=classes, progress=len(jobs) == 1, **windows)
        except UnreadablePictureError as error:
            failures.append(error)


def _write(segmentation: "Segmentation", target: Path, heat_maps: Sequence[str]) -> dict[str, Any] | Exception:
    """
    Write one photo's results, with heat maps of the named classes.

    Returns:
        `dict[str, Any]`: what was written where, and the areas; or an error if the photo cannot be read again.
    """
    from ..inference import UnreadablePictureError

    target.parent.mkdir(parents=True, exist_ok=True)
    overlay = target.with_name(f"{target.name}_overlay.jpg")
    try:
        photo = segmentation.overlay(max_side=_LARGEST_OVERLAY)
    except UnreadablePictureError as error:
        return error
    photo.save(overlay, quality=90)
    areas = segmentation.save(target.with_name(f"{target.name}_areas.json"))
    classes = segmentation.file or segmentation.save(target.with_name(f"{target.name}_classes.png"))
    files = {"overlay": str(overlay), "classes": str(classes), "areas": str(areas)}
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
