# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Photos by the shard: so many files of a folder, a parquet file, or a tar archive as WebDataset has them.

Sources are folders or files on any file system that fsspec knows, such as "s3://bucket/photos".
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import fsspec

from ..data.layouts import IMAGE_SUFFIXES

_PARQUET, _TAR = ".parquet", ".tar"
# What columns of photos are called, the first that a file has.
_IMAGE_COLUMNS = ("image", "images", "img", "photo", "jpg", "png")
# Columns that name a row.
_KEY_COLUMNS = ("__key__", "key", "id", "file_name", "filename", "path", "url")
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Shard:
    """
    Photos that are segmented, and whose results are written, together.

    Args:
        name (`str`): Names the shard's result; made from the names and sizes of its files.
        kind (`str`): "folder", "parquet" or "tar".
        files (`tuple[str, ...]`): The photos, or the one file that has them.
        root (`str`): Folder that names of photos are relative to.
    """

    name: str
    kind: str
    files: tuple[str, ...]
    root: str


class MissingColumnError(ValueError):
    """A parquet file has no column of photos."""


class Photo(io.BytesIO):
    """An encoded picture with a name."""

    def __init__(self, name: str, content: bytes):
        super().__init__(content)
        self.name = name


def list_shards(source: str, shard_size: int = 256) -> list[Shard]:
    """
    Divide a source into shards, the same ones each time as long as its files are the same.

    Args:
        source (`str`):
            A folder of pictures, of parquet files or of tar archives, with the folders in it; or one such file.
        shard_size (`int`, *optional*, defaults to 256):
            Pictures in a shard of a folder of pictures.

    Raises:
        ValueError: If the source does not exist or has nothing to segment, or `shard_size` is not positive.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size={shard_size}: give the number of pictures in a shard, at least 1.")
    file_system, root = fsspec.core.url_to_fs(source)
    if file_system.isfile(root):
        found = {root: file_system.info(root)}
        root = file_system._parent(root)
    else:
        found = file_system.find(root, detail=True)
    sizes = {path: info.get("size") for path, info in sorted(found.items())}
    kind, groups = _group(list(sizes), shard_size)
    if not groups:
        problem = "has no pictures, parquet files or tar archives" if file_system.exists(root) else "does not exist"
        raise ValueError(f"{source} {problem}: give a folder, or a parquet file or tar archive.")
    return [
        Shard(_name(group, sizes, root), kind, tuple(map(file_system.unstrip_protocol, group)), root)
        for group in groups
    ]


def _group(paths: list[str], shard_size: int) -> tuple[str, list[list[str]]]:
    """The kind of a source, and its files by the shard."""
    for kind, suffix in (("parquet", _PARQUET), ("tar", _TAR)):
        if files := [path for path in paths if path.lower().endswith(suffix)]:
            return kind, [[path] for path in files]
    pictures = [path for path in paths if path.lower().endswith(IMAGE_SUFFIXES)]
    return "folder", [pictures[start : start + shard_size] for start in range(0, len(pictures), shard_size)]


def _name(files: list[str], sizes: dict[str, int | None], root: str) -> str:
    listing = "\n".join(f"{_relative(path, root)}\t{sizes[path]}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()[:16]


def _relative(path: str, root: str) -> str:
    return path.removeprefix(root).lstrip("/")


def read_photos(shard: Shard, image_column: str | None = None) -> Iterator[Photo]:
    """
    The photos of a shard, one after the other, never all in memory.

    Args:
        shard ([`Shard`]): The shard.
        image_column (`str`, *optional*): Column of a parquet file that has the photos; by default it is found.

    Raises:
        MissingColumnError: If a parquet file has no column of photos.
    """
    if shard.kind == "folder":
        for path in shard.files:
            yield Photo(_relative(fsspec.core.strip_protocol(path), shard.root), _read_file(path))
        return
    (path,) = shard.files
    name = _relative(fsspec.core.strip_protocol(path), shard.root)
    with fsspec.open(path, "rb") as file:
        yield from _read_tar(file, name) if shard.kind == "tar" else _read_parquet(file, name, image_column)


def _read_file(path: str) -> bytes:
    """A file's content; nothing, which is no picture, if it is gone."""
    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _read_tar(file: Any, name: str) -> Iterator[Photo]:
    """Pictures of an archive in its order; other members, such as captions, are passed over."""
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            if member.isfile() and PurePosixPath(member.name.lower()).suffix in IMAGE_SUFFIXES:
                yield Photo(f"{name}/{member.name}", archive.extractfile(member).read())


def _read_parquet(file: Any, name: str, image_column: str | None) -> Iterator[Photo]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file)
    columns = table.schema_arrow.names
    image_column = _find_image_column(columns, name, image_column)
    key_column = next((column for column in _KEY_COLUMNS if column in columns and column != image_column), None)
    row = 0
    wanted = [image_column] if key_column is None else [image_column, key_column]
    for batch in table.iter_batches(_ROWS_AT_ONCE, columns=wanted):
        for values in batch.to_pylist():
            image = values[image_column]
            path = image.get("path") if isinstance(image, dict) else None
            content = image.get("bytes") if isinstance(image, dict) else image
            key = str(values[key_column]) if key_column is not None else path or str(row)
            yield Photo(f"{name}/{row}" if key == str(row) else f"{name}/{row}/{key}", content or b"")
            row += 1


def _find_image_column(columns: list[str], name: str, image_column: str | None) -> str:
    if image_column is None:
        image_column = next((column for column in _IMAGE_COLUMNS if column in columns), None)
    if image_column not in columns:
        wanted = "of pictures" if image_column is None else repr(image_column)
        raise MissingColumnError(f"{name} has no column {wanted}, but {', '.join(columns)}: pass image_column=.")
    return image_column
