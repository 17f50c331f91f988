# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg predict`."""

import json
import os
from collections.abc import Mapping, Sequence
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
    from ..inference.result_paths import Job


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
    folder of its name. The classes of a GeoTIFF, and with --tile of any TIFF, are written to NAME_classes.tif, with its
    coordinates. Of a video there are NAME_overlay.mp4 and a folder NAME_classes with a PNG for each frame. What cannot
    be read is reported, the rest is segmented, and the exit code is 1.
    """
    others = {
        "device": device,
        "size": size,
        "tile": tile,
        "overlap": overlap,
        "scale": None if scale == 1 else scale,
        "max-pixels": max_pixels,
        "heat-map": heat_map or None,
        "trust-remote-code": trust_remote_code or None,
        "json": as_json or None,
    }
    _refuse_conflicts(cluster, others)
    if cluster is not None:
        _predict_on_cluster(photos, output, model, cluster, engine, precision, batch_size)
        return
    check_output_folder(Path(output))
    jobs, missing = _plan(list(dict.fromkeys(map(Path, photos))), Path(output))
    if not jobs:
        if as_json:
            echo(_to_json([], missing))
        raise ValueError("\n".join(missing))
    model = locate_model(model)
    for message in missing:
        echo(message, err=True, color="red")
    if not as_json:
        announce("Loading the model")

    from ..engines.memory import keep_freed_memory
    from ..inference import Segmenter
    from ..inference.results import segment_jobs

    kind = _name_kind(jobs, bool(heat_map))
    keep_freed_memory()
    segmenter = Segmenter.from_pretrained(
        model, engine, device, precision, max_pixels=max_pixels, trust_remote_code=trust_remote_code
    )
    if size is not None:
        segmenter.image_processor.size = override_size(segmenter.image_processor.size, size)
    written: list[dict[str, Any]] = []
    failures: list[str] = []
    results = segment_jobs(
        segmenter,
        jobs,
        lambda _, error: failures.append(str(error)),
        batch_size=batch_size,
        heat_maps=list(dict.fromkeys(heat_map or ())),
        windows=None if tile is None else {"tile": tile, "overlap": overlap, "scale": scale},
    )
    try:
        for result in results:
            written.append(result)
    except KeyboardInterrupt:
        echo(f"Stopped after {len(written)} of {len(jobs)} {kind}. What is finished is in {output}", err=True)
        raise
    summary = f"{len(written)} of {len(jobs) + len(missing)} {kind} are segmented"
    if written:
        summary += f". The overlays, classes and areas are in {output}"
    _report(failures, _to_json(written, missing + failures) if as_json else summary)
    if missing:
        raise typer.Exit(1)


def _refuse_conflicts(cluster: str | None, others: Mapping[str, Any]) -> None:
    """Refuse options that cannot be used together."""
    if cluster is not None:
        refuse_options(others, " cannot be used with --cluster.")
    elif others["tile"] is None:
        of_windows = {"overlap": others["overlap"], "scale": others["scale"]}
        refuse_options(of_windows, ": windows come with --tile, such as --tile 512.")
    else:
        refuse_options({"heat-map": others["heat-map"]}, " cannot be used with --tile.")
        size = {"size": others["size"]}
        refuse_options(size, " cannot be used with --tile, which runs at the photos' own size: see --scale.")


def _plan(sources: list[Path], folder: Path) -> "tuple[list[Job], list[str]]":
    """Plan the results of the files that exist, and describe those that do not."""
    from ..inference.result_paths import plan_jobs

    try:
        jobs = plan_jobs(sources, folder)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    # By the paths as they were given: links that lead nowhere in a folder are found when they are opened.
    missing = [source for source in sources if not os.path.lexists(source)]
    return [job for job in jobs if job.source not in missing], [_describe_missing(source) for source in missing]


def _describe_missing(source: Path) -> str:
    can_look = source.parent.is_dir() and os.access(source.parent, os.R_OK)
    names = [file.name for file in source.parent.iterdir()] if can_look else []
    return (
        f"{one_line(source)} cannot be read: there is no such file or folder, check its path."
        f"{did_you_mean(source.name, names)}"
    )


def _name_kind(jobs: "Sequence[Job]", with_heat_maps: bool) -> str:
    """Name what is segmented, once it is sure that videos can be."""
    from ..inference.videos import import_av, is_video

    num_videos = sum(is_video(job.source) for job in jobs)
    if not num_videos:
        return "photos"
    import_av()
    if with_heat_maps:
        echo("Heat maps are drawn of the photos alone, not of the videos.", err=True)
    return "videos" if num_videos == len(jobs) else "photos and videos"


def _to_json(written: Sequence[Mapping[str, Any]], errors: Sequence[str]) -> str:
    return json.dumps({"results": written, "errors": errors}, ensure_ascii=False, indent=1)


def _report(failures: Sequence[str], result: str) -> None:
    """Print the failures, and in the last line where the results are."""
    for failure in failures:
        echo(failure, err=True, color="red")
    echo(result)
    if failures:
        raise typer.Exit(1)


def _predict_on_cluster(
    photos: list[str], output: str, model: str, cluster: str, engine: str, precision: str | None, batch_size: int
) -> None:
    if len(photos) != 1:
        raise typer.BadParameter("One folder, or one parquet file or tar archive, goes to a cluster.")
    # By its name, which another start and other machines know it by too.
    name = expand_shipped(model)
    locate_model(name)
    from ..cluster import segment_on_cluster

    result = segment_on_cluster(
        photos[0],
        output,
        name,
        address=None if cluster == "local" else cluster,
        engine=engine,
        dtype=precision,
        batch_size=batch_size,
        progress=True,
    )
    summary = f"{result.num_photos} photos were looked at, {len(result.errors)} of them could not be read"
    if result.num_shards_before:
        summary += f"; {result.num_shards_before} of {result.num_shards} shards had been finished before"
    _report(list(result.errors.values()), f"{summary}. The label maps and area shares are in {output}")
