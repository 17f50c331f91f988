# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg predict`."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..pretrained.locating import SHIPPED, expand_shipped, locate_model
from ..utils.messages import did_you_mean, echo, one_line
from .data_options import (
    DeviceOption,
    EngineOption,
    PrecisionOption,
    TrustOption,
    announce,
    check_output_folder,
    override_size,
    refuse_options,
)

if TYPE_CHECKING:
    from ..inference import Segmentation, Segmenter
    from ..inference.results import Job

# With windows, label maps of these are written strip by strip as TIFF too; others are in memory as a whole anyway.
_READ_IN_BANDS = (".tif", ".tiff", ".npy")


def predict(
    photos: Annotated[list[str], typer.Argument(help="Photos, folders of photos, and videos.")],
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder of the results; with --cluster it may be on a bucket.")
    ] = "runs/predict",
    model: Annotated[
        str, typer.Option(help="Folder of a model or of an export, a Hugging Face Hub id, or shipped.")
    ] = SHIPPED,
    engine: EngineOption = "auto",
    device: DeviceOption = None,
    precision: PrecisionOption = None,
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
    trust_remote_code: TrustOption = False,
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
    heat_maps = list(dict.fromkeys(heat_map or ()))
    if cluster is not None:
        if len(photos) != 1:
            raise typer.BadParameter("One folder, or one parquet file or tar archive, goes to a cluster.")
        one_machine = {
            "device": device,
            "size": size,
            "tile": tile,
            "max-pixels": max_pixels,
            "heat-map": heat_map or None,
            "trust-remote-code": trust_remote_code or None,
            "json": as_json or None,
        }
        refuse_options(one_machine | of_windows, " cannot be used with --cluster.")
        # By its name, which another start and other machines know it by too.
        name = expand_shipped(model)
        locate_model(name)
        _predict_on_cluster(photos[0], output, name, cluster, engine, precision, batch_size)
        return

    if tile is None:
        refuse_options(of_windows, ": windows come with --tile, such as --tile 512.")
    else:
        refuse_options({"heat-map": heat_map or None}, " cannot be used with --tile.")
        refuse_options({"size": size}, " cannot be used with --tile, which runs at the photos' own size: see --scale.")
    folder = Path(output)
    check_output_folder(folder)
    jobs, missing = _plan(list(dict.fromkeys(map(Path, photos))), folder)
    if not jobs:
        if as_json:
            echo(_to_json([], missing))
        raise ValueError("\n".join(map(str, missing)))
    model = locate_model(model)
    for error in missing:
        echo(error, err=True, color="red")
    if not as_json:
        announce("Loading the model")

    from tqdm.auto import tqdm
    from transformers import AutoConfig

    from ..engines.memory import keep_freed_memory
    from ..inference import Segmenter
    from ..inference.threads import map_ahead
    from ..inference.videos import import_av, is_video
    from ..visualization.heat_maps import find_class

    videos = [job for job in jobs if is_video(job.photo)]
    jobs = [job for job in jobs if not is_video(job.photo)]
    if videos:
        import_av()
    if heat_maps:
        id2label = AutoConfig.from_pretrained(model).id2label
        for name in heat_maps:
            find_class(name, id2label)
        if videos:
            echo("Heat maps are drawn of the photos alone, not of the videos.", err=True)
    keep_freed_memory()
    segmenter = Segmenter.from_pretrained(
        model, engine, device, precision, max_pixels=max_pixels, trust_remote_code=trust_remote_code
    )
    if size is not None:
        segmenter.image_processor.size = override_size(segmenter.image_processor.size, size)
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
        try:
            # The next photo is segmented while the files of the last one are written.
            for result in map_ahead(partial(_write, targets, heat_maps), segmentations):
                kept = failures if isinstance(result, Exception) else written
                kept.append(result)
                bar.update()
        except KeyboardInterrupt:
            bar.close()
            echo(f"Stopped after {bar.n} of {len(jobs)} photos. What is finished is in {output}", err=True)
            raise
    written += _segment_videos(segmenter, videos, options, failures)
    what = "photos and videos" if jobs and videos else "videos" if videos else "photos"
    result = f"{len(written)} of {len(written) + len(failures) + len(missing)} {what} are segmented"
    if written:
        result += f". The overlays, classes and areas are in {output}"
    if as_json:
        result = _to_json(written, missing + failures)
    _report(failures, result)
    if missing:
        raise typer.Exit(1)


def _plan(photos: list[Path], folder: Path) -> "tuple[list[Job], list[Exception]]":
    """Where results of what is there go, and errors for what is not."""
    from ..inference.results import plan_jobs

    try:
        jobs = plan_jobs(photos, folder)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    # By the paths as they were given: links that lead nowhere in a folder are found when they are opened.
    missing = [photo for photo in photos if not os.path.lexists(photo)]
    errors: list[Exception] = [ValueError(_describe_missing(photo)) for photo in missing]
    return [job for job in jobs if job.photo not in missing], errors


def _to_json(written: Sequence[Mapping[str, Any]], errors: Sequence[Exception]) -> str:
    return json.dumps({"results": written, "errors": list(map(str, errors))}, ensure_ascii=False, indent=1)


def _describe_missing(photo: Path) -> str:
    can_look = photo.parent.is_dir() and os.access(photo.parent, os.R_OK)
    names = [file.name for file in photo.parent.iterdir()] if can_look else []
    return (
        f"{one_line(photo)} cannot be read: there is no such file or folder, check its path."
        f"{did_you_mean(photo.name, names)}"
    )


def _write(
    targets: Mapping[Any, Path], heat_maps: Sequence[str], segmentation: "Segmentation"
) -> dict[str, Any] | Exception:
    """What was written of one photo, or an error if it cannot be read again."""
    from ..inference.results import write_results
    from ..model.image_reading_cgrseg import UnreadableImageError

    try:
        return write_results(segmentation, targets[segmentation.source], heat_maps)
    except UnreadableImageError as error:
        return error


def _segment_videos(
    segmenter: "Segmenter", jobs: "list[Job]", options: dict[str, Any], failures: list[Exception]
) -> Iterator[dict[str, Any]]:
    """What was written of each video."""
    from ..inference import Video
    from ..model.image_reading_cgrseg import UnreadableImageError
    from .video_results import segment_video

    for job in jobs:
        try:
            yield segment_video(segmenter, Video(job.photo), job.target, **options)
        except UnreadableImageError as error:
            failures.append(error)


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


def _segment_in_windows(
    segmenter: "Segmenter", jobs: "list[Job]", windows: dict[str, Any], failures: list[Exception]
) -> "Iterator[Segmentation]":
    from ..model.image_reading_cgrseg import UnreadableImageError

    for job in jobs:
        classes = None
        if job.photo.suffix.lower() in _READ_IN_BANDS:
            classes = job.target.with_name(f"{job.target.name}_classes.tif")
            classes.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield segmenter(job.photo, output=classes, progress=len(jobs) == 1, **windows)
        except UnreadableImageError as error:
            failures.append(error)
