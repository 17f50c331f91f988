# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Millions of photos on many machines, by Ray Data.

A source is divided into shards: so many files of a folder, a parquet file, or a tar archive (WebDataset). The results
of a shard are a parquet file that appears whole or not at all, so that a run can be continued. Sources and results can
be on any file system that fsspec knows, such as "s3://bucket/photos".
"""

import hashlib
import io
import itertools
import json
import os
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from tqdm.auto import tqdm

from .model.image_formats_cgrseg import IMAGE_SUFFIXES
from .pretrained import DEFAULT_MODEL
from .utils.optional import import_optional

__all__ = ["ClusterResult", "segment_on_cluster"]

_CONTAINERS = (".parquet", ".tar")
# Usual names of the column of photos in a parquet file, and of a column that names a row.
_IMAGE_COLUMNS = ("image", "images", "img", "photo", "jpg", "png")
_KEY_COLUMNS = ("__key__", "key", "id", "file_name", "filename", "path", "url")
_ROWS_AT_ONCE = 32
# Only descriptions and summaries of shards pass through the cluster's shared memory.
_LOCAL_OBJECT_STORE = 128 * 2**20


@dataclass(frozen=True)
class ClusterResult:
    """
    Summary of a run on a cluster.

    Args:
        output (`str`): Folder of the results.
        num_shards (`int`): Shards of the source.
        num_shards_before (`int`): Shards of them that an earlier run had finished.
        num_photos (`int`): Photos in the shards that this run finished.
        errors (`dict[str, str]`): For each photo of them that could not be read, the reason.
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
    Segment all photos of a source on a Ray cluster, with an actor for each GPU, or else for `threads_per_actor` CPUs.

    Each shard's results are a parquet file with a row for each photo: its `name`, its `label_map` as an indexed PNG at
    the photo's own size, the `area_shares` of all classes by id, and the `error` of a photo that cannot be read. A
    shard whose file exists is not computed again, so that a run that ended early continues when it is started again. An
    actor that dies is replaced, and its shard given to another.

    Args:
        source (`str` or `os.PathLike`):
            A folder of photos, of parquet files or of tar archives (WebDataset), here or anywhere that fsspec reaches.
            All machines must see it, and `output` and `model` too.
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
            Photos in a shard of a folder of photos.
        image_column (`str`, *optional*):
            Column of parquet files that has the photos; by default it is found by its name.
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a progress bar of shards.

    Returns:
        [`ClusterResult`].

    Raises:
        ImportError: If Ray is not installed.
        ValueError: If the source has nothing to segment, or the output holds results of other photos or settings.
    """
    ray = import_optional("ray", "ray", "Runs on a cluster")
    import_optional("ray.data", "ray", "Runs on a cluster")

    source, model = _make_absolute(source), _make_absolute(model)
    output = output if "://" in os.fspath(output) else Path(output).resolve()
    results = ResultStore(os.fspath(output))
    shards = list_shards(source, shard_size)
    settings = {"engine": engine, "dtype": dtype, "shard_size": shard_size, "image_column": image_column}
    results.check_settings({"source": source, "model": model, **settings})
    finished = results.list_finished()
    if strangers := finished - {shard["name"] for shard in shards}:
        raise ValueError(
            f"{output} holds results ({min(strangers)}.parquet and {len(strangers) - 1} more) of photos that are not "
            f"in {source} now, or are divided otherwise: choose another folder, or remove them."
        )
    remaining = [shard for shard in shards if shard["name"] not in finished]
    num_photos = 0
    errors: dict[str, str] = {}
    if remaining:
        is_started = not ray.is_initialized()
        if is_started:
            local = {"include_dashboard": False, "object_store_memory": _LOCAL_OBJECT_STORE}
            ray.init(address, log_to_driver=False, **({} if address else local))
        try:
            actor = {
                "results": results,
                "model": model,
                "settings": {"engine": engine, "dtype": dtype, "num_threads": threads_per_actor},
                "batch_size": batch_size,
                "image_column": image_column,
            }
            summaries = _run(ray, remaining, actor, threads_per_actor, num_actors)
            for summary in tqdm(
                summaries, total=len(shards), initial=len(finished), unit="shard", disable=not progress
            ):
                num_photos += summary["num_photos"]
                errors |= json.loads(summary["errors"])
        finally:
            if is_started:
                ray.shutdown()
    return ClusterResult(os.fspath(output), len(shards), len(finished), num_photos, errors)


def _make_absolute(path: str | os.PathLike) -> str:
    """Make a path absolute, since actors run elsewhere; addresses and Hub ids stay as they are."""
    path = os.fspath(path)
    is_path = "://" not in path and (Path(path).exists() or path.startswith((".", "/")))
    return str(Path(path).resolve()) if is_path else path


def _run(
    ray: Any, shards: Sequence[Mapping[str, Any]], actor: dict[str, Any], threads_per_actor: int, num_actors: int | None
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
    ray.data.DataContext.get_current().enable_progress_bars = False  # of Ray's stages; shards are what users count
    summaries = ray.data.from_items(shards, override_num_blocks=len(shards)).map_batches(
        _ShardSegmenter,
        fn_constructor_kwargs=actor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(num_actors, len(shards))),
        num_cpus=threads_per_actor,
        num_gpus=1 if num_gpus else 0,
    )
    return summaries.iter_rows()


class _ShardSegmenter:
    """An actor: loads the model once, and segments shards."""

    def __init__(
        self, results: "ResultStore", model: str, settings: dict[str, Any], batch_size: int, image_column: str | None
    ):
        from .engines.memory import keep_freed_memory
        from .inference import Segmenter

        keep_freed_memory()
        self.results = results
        self.segmenter = Segmenter.from_pretrained(model, **settings)
        self.batch_size = batch_size
        self.image_column = image_column

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list]:
        """Segment the one shard of a batch; its number of photos, and the errors of those that cannot be read."""
        (name,), (files,), (root,) = batch["name"], batch["files"], batch["root"]
        errors: dict[str, str] = {}
        photos = read_photos(files, root, self.image_column, errors)
        rows = self._segment(photos, errors)
        num_photos = self.results.write(name, rows, self.segmenter.id2label)
        return {"num_photos": [num_photos], "errors": [json.dumps(errors)]}

    def _segment(self, photos: Iterator["_Photo"], errors: dict[str, str]) -> Iterator[dict[str, Any]]:
        from .inference.label_map_files import write_png

        def note(photo: _Photo, error: Exception) -> None:
            errors[photo.name] = str(error)

        for segmentation in self.segmenter(photos, batch_size=self.batch_size, on_error=note):
            png, counts = io.BytesIO(), segmentation.pixel_counts
            write_png(png, segmentation.label_map, segmentation.colors)
            yield {
                "name": segmentation.source.name,
                "label_map": {"bytes": png.getvalue(), "path": None},
                "area_shares": (counts / counts.sum()).tolist(),
            }
        yield from ({"name": name, "error": error} for name, error in errors.items())


class _Photo(io.BytesIO):
    """An encoded photo with a name."""

    def __init__(self, name: str, content: bytes):
        super().__init__(content)
        self.name = name


def list_shards(source: str, shard_size: int = 256) -> list[dict[str, Any]]:
    """
    Divide a source into shards, the same ones each time as long as its files are the same.

    Returns:
        `list[dict]`: for each shard its `name`, made from the names and sizes of its files; the addresses of its
        `files`; and the `root` that names of photos are relative to.

    Raises:
        ValueError: If the source does not exist or has nothing to segment, or `shard_size` is not positive.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size={shard_size}: give the number of photos in a shard, at least 1.")
    file_system, root = fsspec.core.url_to_fs(source)
    found = file_system.find(root, detail=True)
    if list(found) == [root]:  # a file
        root = root.rpartition("/")[0]
    sizes = {path: info["size"] for path, info in sorted(found.items())}
    groups: list[list[str]] = []
    for suffix in _CONTAINERS:
        groups = groups or [[path] for path in sizes if path.lower().endswith(suffix)]
    if not groups:
        photos = [path for path in sizes if _is_image(path)]
        groups = [photos[start : start + shard_size] for start in range(0, len(photos), shard_size)]
    if not groups:
        problem = "has no photos, parquet files or tar archives" if file_system.exists(root) else "does not exist"
        raise ValueError(f"{source} {problem}: give a folder, or a parquet file or tar archive.")
    shards = []
    for group in groups:
        listing = "\n".join(f"{_relative(path, root)}\t{sizes[path]}" for path in group)
        name = hashlib.sha256(listing.encode()).hexdigest()[:16]
        shards.append({"name": name, "files": [file_system.unstrip_protocol(path) for path in group], "root": root})
    return shards


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)


def _relative(path: str, root: str) -> str:
    return fsspec.core.strip_protocol(path).removeprefix(root).lstrip("/")


def read_photos(
    files: Sequence[str], root: str, image_column: str | None = None, errors: dict[str, str] | None = None
) -> Iterator[_Photo]:
    """
    Read the photos of a shard one after the other, never all into memory.

    Args:
        files (`Sequence[str]`), root (`str`): See [`list_shards`].
        image_column (`str`, *optional*): Column of a parquet file that has the photos.
        errors (`dict[str, str]`, *optional*): For each file that cannot be read, or not to its end, gets the reason.

    Raises:
        ValueError: If a parquet file has no column of photos.
    """
    errors = {} if errors is None else errors
    for file in files:
        name = _relative(file, root)
        suffix = PurePosixPath(name.lower()).suffix
        try:
            with fsspec.open(file, "rb") as opened:
                if suffix == ".tar":
                    yield from _read_tar(opened, name)
                elif suffix == ".parquet":
                    yield from _read_parquet(opened, name, image_column)
                else:
                    yield _Photo(name, opened.read())
        except _MissingColumnError:
            raise
        except Exception as error:  # file systems, archives and parquet files have errors of their own
            errors[name] = f"{name} cannot be read: {error}"


def _read_tar(file: Any, name: str) -> Iterator[_Photo]:
    """Read the photos of an archive in its order, without other members, such as captions."""
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() and _is_image(member.name) else None
            if content is not None:
                yield _Photo(f"{name}/{member.name}", content.read())


class _MissingColumnError(ValueError):
    """A parquet file has no column of photos."""


def _read_parquet(file: Any, name: str, image_column: str | None) -> Iterator[_Photo]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file)
    columns = table.schema_arrow.names
    image_column = image_column or next((column for column in _IMAGE_COLUMNS if column in columns), None)
    if image_column not in columns:
        wanted = "of photos" if image_column is None else repr(image_column)
        raise _MissingColumnError(f"{name} has no column {wanted}, but {', '.join(columns)}: pass image_column=.")
    key_columns = [column for column in _KEY_COLUMNS if column in columns and column != image_column][:1]
    batches = table.iter_batches(_ROWS_AT_ONCE, columns=[image_column, *key_columns])
    for row, values in enumerate(values for batch in batches for values in batch.to_pylist()):
        image, keys = values[image_column], [values[column] for column in key_columns]
        if isinstance(image, dict):  # as datasets writes images
            keys, image = keys or [image["path"]], image["bytes"]
        is_named = keys and keys[0] not in (None, "", row, str(row))
        yield _Photo(f"{name}/{row}/{keys[0]}" if is_named else f"{name}/{row}", image or b"")


class ResultStore:
    """
    The folder of results: `settings.json` with the settings that made them, and a parquet file for each finished shard.

    Args:
        folder (`str`): The folder's path or address.
    """

    def __init__(self, folder: str):
        self.file_system, self.folder = fsspec.core.url_to_fs(folder)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """
        Write the settings, or compare them with those of the results in the folder.

        Raises:
            ValueError: If they differ.
        """
        path = f"{self.folder}/settings.json"
        self.file_system.makedirs(self.folder, exist_ok=True)
        if not self.file_system.exists(path):
            self.file_system.pipe_file(path, json.dumps(dict(settings), indent=1, ensure_ascii=False).encode())
            return
        before = json.loads(self.file_system.cat_file(path))
        if different := [name for name in {**before, **settings} if before.get(name) != settings.get(name)]:
            shown = ", ".join(f"{name} was {before.get(name)!r}, now {settings.get(name)!r}" for name in different)
            raise ValueError(f"{self.folder} holds results of other settings ({shown}): choose another folder.")

    def list_finished(self) -> set[str]:
        """List the names of the shards whose results are in the folder."""
        names = (PurePosixPath(path) for path in self.file_system.ls(self.folder, detail=False, refresh=True))
        return {name.stem for name in names if name.suffix == ".parquet"}

    def write(self, shard: str, rows: Iterable[Mapping[str, Any]], id2label: Mapping[int, str]) -> int:
        """
        Write a shard's rows as they come, to another name until the file is whole; the number of rows.

        `datasets` reads the label maps back as images; the names of the classes are in the file's metadata.
        """
        import pyarrow as pa
        import pyarrow.parquet
        from datasets import Features, Image, List, Value

        columns = {"name": Value("string"), "label_map": Image(), "area_shares": List(Value("float32"))}
        schema = Features({**columns, "error": Value("string")}).arrow_schema
        names = json.dumps({str(class_id): name for class_id, name in id2label.items()}, ensure_ascii=False)
        schema = schema.with_metadata({**(schema.metadata or {}), "id2label": names})
        unfinished = f"{self.folder}/.{shard}.{uuid.uuid4().hex}.part"
        count, rows = 0, iter(rows)
        try:
            with (
                self.file_system.open(unfinished, "wb") as file,
                pyarrow.parquet.ParquetWriter(file, schema) as writer,
            ):
                while some := list(itertools.islice(rows, _ROWS_AT_ONCE)):
                    writer.write_table(pa.Table.from_pylist(some, schema))
                    count += len(some)
            self.file_system.mv(unfinished, f"{self.folder}/{shard}.parquet")
        finally:
            if self.file_system.exists(unfinished):
                self.file_system.rm(unfinished)
        return count
