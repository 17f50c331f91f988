# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Shards of photos through the actors of a Ray cluster."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..pretrained import DEFAULT_MODEL
from ..utils.optional import import_optional
from .results import ResultStore, error_row, result_row
from .shards import MissingColumnError, Photo, Shard, list_shards, read_photos

# Only the shards' descriptions and summaries pass through the cluster's shared memory.
_LOCAL_OBJECT_STORE = 128 * 2**20


@dataclass(frozen=True)
class ClusterResult:
    """
    What became of the photos.

    Args:
        output (`str`): Folder of the results.
        num_shards (`int`): Shards of the source.
        num_shards_before (`int`): Shards of them that an earlier run had finished.
        num_photos (`int`): Photos in the shards that this run finished.
        errors (`dict[str, str]`): For each photo of them that could not be read, why.
    """

    output: str
    num_shards: int
    num_shards_before: int
    num_photos: int
    errors: dict[str, str]


def segment_on_cluster(
    source: str | os.PathLike,
    output: str | os.PathLike,
    model: str | os.PathLike = DEFAULT_MODEL,
    *,
    address: str | None = None,
    engine: str = "auto",
    dtype: str | None = None,
    batch_size: int = 1,
    threads_per_actor: int = 1,
    num_actors: int | None = None,
    shard_size: int = 256,
    image_column: str | None = None,
    progress: bool = False,
) -> ClusterResult:
    """
    Segment all photos of a source on a Ray cluster: one actor for each GPU, or else for each `threads_per_actor` CPUs.

    Each shard's results are a parquet file of their own, with a row for each photo (see `result_features` in
    `cgrseg_hf.cluster.results`). A shard whose file is there is not computed again, so that a run that was ended goes
    on when it is started anew. An actor that dies is replaced, and its shard given to another.

    Args:
        source (`str` or `os.PathLike`):
            A folder of pictures, of parquet files or of tar archives (WebDataset), here or anywhere that fsspec
            reaches. All machines must see it, and `output` and `model` too.
        output (`str` or `os.PathLike`):
            Folder of the results.
        model (`str` or `os.PathLike`, *optional*):
            Folder or Hub id of the model, or an export folder; by default the shipped model.
        address (`str`, *optional*):
            Address of the cluster, such as `"ray://head:10001"` or `"auto"`; by default a cluster of this machine's
            cores and GPUs is started.
        engine (`str`, *optional*, defaults to `"auto"`), dtype (`str`, *optional*):
            See [`Segmenter`].
        batch_size (`int`, *optional*, defaults to 1):
            Photos of equal size that go through the network together.
        threads_per_actor (`int`, *optional*, defaults to 1):
            CPUs of each actor.
        num_actors (`int`, *optional*):
            Number of actors; by default as many as the cluster holds.
        shard_size (`int`, *optional*, defaults to 256):
            Pictures in a shard of a folder of pictures.
        image_column (`str`, *optional*):
            Column of parquet files that has the photos; by default it is found.
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a progress bar of shards.

    Returns:
        [`ClusterResult`].

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If the source has nothing to segment, or the output holds results of other settings.
    """
    ray = import_optional("ray", "ray", "Runs on a cluster")
    import_optional("ray.data", "ray", "Runs on a cluster")

    source, model = _absolute(source), _absolute(model)
    output = os.fspath(output)
    output = output if "://" in output else str(Path(output).resolve())
    shards = list_shards(source, shard_size)
    store = ResultStore(output)
    settings = {"engine": engine, "dtype": dtype, "shard_size": shard_size, "image_column": image_column}
    store.begin({"source": source, "model": model, **settings})
    finished = store.finished()
    if strangers := finished - {shard.name for shard in shards}:
        raise ValueError(
            f"{output} holds results ({min(strangers)}.parquet and {len(strangers) - 1} more) of photos that are not "
            f"in {source} now, or are divided otherwise: choose another folder, or remove them."
        )
    to_do = [shard for shard in shards if shard.name not in finished]
    num_photos, errors = 0, {}
    if to_do:
        started_here = _connect(ray, address)
        try:
            actor = {
                "output": output,
                "model": model,
                "settings": {"engine": engine, "dtype": dtype, "num_threads": threads_per_actor},
                "batch_size": batch_size,
                "image_column": image_column,
            }
            summaries = _run(ray, to_do, actor, threads_per_actor, num_actors)
            for summary in tqdm(
                summaries, total=len(shards), initial=len(shards) - len(to_do), unit="shard", disable=not progress
            ):
                num_photos += summary["num_photos"]
                errors.update(zip(summary["failed"], summary["reasons"]))
        finally:
            if started_here:
                ray.shutdown()
    return ClusterResult(output, len(shards), len(shards) - len(to_do), num_photos, errors)


def _absolute(path: str | os.PathLike) -> str:
    """A folder's absolute path, since actors run elsewhere; addresses and Hub ids stay as they are."""
    path = os.fspath(path)
    return (
        path if "://" in path or not (Path(path).exists() or path.startswith((".", "/"))) else str(Path(path).resolve())
    )


def _connect(ray: Any, address: str | None) -> bool:
    """Connect to the cluster, or start one on this machine; whether it was this call that did."""
    if ray.is_initialized():
        return False
    if address is None:
        ray.init(include_dashboard=False, object_store_memory=_LOCAL_OBJECT_STORE, log_to_driver=False)
    else:
        ray.init(address=address, log_to_driver=False)
    return True


def _run(
    ray: Any, shards: list[Shard], actor: dict[str, Any], threads_per_actor: int, num_actors: int | None
) -> Iterator[dict[str, Any]]:
    """Give the shards to the actors; a summary for each, in any order."""
    resources = ray.cluster_resources()
    num_gpus = int(resources.get("GPU", 0))
    if num_actors is None:
        num_actors = num_gpus or int(resources["CPU"] // threads_per_actor)
    if num_actors < 1:
        raise ValueError(
            f"The cluster has {resources['CPU']:.0f} CPUs, fewer than threads_per_actor={threads_per_actor}."
        )
    num_actors = min(num_actors, len(shards))
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells every plan, and that it shows no progress
    items = ray.data.from_items([asdict(shard) for shard in shards], override_num_blocks=len(shards))
    summaries = items.map_batches(
        _ShardSegmenter,
        fn_constructor_kwargs=actor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_cpus=threads_per_actor,
        num_gpus=1 if num_gpus else 0,
    )
    return summaries.iter_rows()


class _ShardSegmenter:
    """An actor: loads the model once, and segments shards."""

    def __init__(self, output: str, model: str, settings: dict[str, Any], batch_size: int, image_column: str | None):
        from ..engines.memory import keep_freed_memory
        from ..inference import Segmenter

        keep_freed_memory()
        self.store = ResultStore(output)
        self.segmenter = Segmenter.from_pretrained(model, **settings)
        self.batch_size = batch_size
        self.image_column = image_column

    def __call__(self, batch: dict[str, Any]) -> dict[str, list]:
        """Segment the one shard of a batch, and say how many photos it had and what failed."""
        (shard,) = (
            Shard(*values) for values in zip(batch["name"], batch["kind"], map(tuple, batch["files"]), batch["root"])
        )
        errors: dict[str, str] = {}
        num_photos = 0

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal num_photos
            unreadable: list[dict[str, Any]] = []

            def note(photo: Photo, error: Exception) -> None:
                errors[photo.name] = str(error)
                unreadable.append(error_row(photo.name, error))

            photos = _until_broken(read_photos(shard, self.image_column), shard, note)
            for segmentation in self.segmenter(photos, batch_size=self.batch_size, on_error=note):
                num_photos += 1
                yield result_row(segmentation.source.name, segmentation)
            num_photos += len(unreadable)
            yield from unreadable

        self.store.write_rows(shard.name, rows(), self.segmenter.id2label)
        return {"num_photos": [num_photos], "failed": [list(errors)], "reasons": [list(errors.values())]}


def _until_broken(photos: Iterator[Photo], shard: Shard, note: Callable[[Photo, Exception], None]) -> Iterator[Photo]:
    """The photos of a shard up to where its file is broken, which is noted as one that cannot be read."""
    try:
        yield from photos
    except MissingColumnError:
        raise
    except Exception as error:  # archives and parquet files have errors of their own for what is cut off
        note(Photo(shard.files[0], b""), error)
