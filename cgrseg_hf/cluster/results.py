# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps and area shares as parquet files, one for each shard, which appear whole or not at all."""

import io
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import fsspec

from ..inference.label_map_files import write_png

_ROWS_AT_ONCE = 32


class ResultStore:
    """
    The folder of results.

    A shard is finished when its file is there: it is written under another name and renamed. `settings.json` says by
    what the results were made, and results of other settings are never mixed with them.

    Args:
        folder (`str`): Where results go, on any file system that fsspec knows.
    """

    def __init__(self, folder: str):
        self.file_system, self.folder = fsspec.core.url_to_fs(folder)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """
        Note the settings, or compare them with those of the results that are there.

        Raises:
            ValueError: If they differ.
        """
        path = f"{self.folder}/settings.json"
        self.file_system.makedirs(self.folder, exist_ok=True)
        if not self.file_system.exists(path):
            self._write(path, json.dumps(dict(settings), indent=1, ensure_ascii=False).encode())
            return
        before = json.loads(self.file_system.cat_file(path))
        if different := [name for name in {**before, **settings} if before.get(name) != settings.get(name)]:
            shown = ", ".join(f"{name} was {before.get(name)!r}, now {settings.get(name)!r}" for name in different)
            raise ValueError(f"{self.folder} holds results of other settings ({shown}): choose another folder.")

    def path(self, shard_name: str) -> str:
        """The file of a shard's results."""
        return f"{self.folder}/{shard_name}.parquet"

    def finished(self) -> set[str]:
        """Names of the shards whose results are there."""
        self.file_system.invalidate_cache()
        names = (path.rsplit("/", 1)[-1] for path in self.file_system.ls(self.folder, detail=False))
        return {name.removesuffix(".parquet") for name in names if name.endswith(".parquet")}

    def write_rows(self, shard_name: str, rows: Iterable[Mapping[str, Any]], id2label: Mapping[int, str]) -> None:
        """
        Write a shard's results as they come.

        Args:
            shard_name (`str`): The shard.
            rows (`Iterable[Mapping]`): Values of the columns of [`result_features`].
            id2label (`Mapping[int, str]`): Names of the classes, kept with the file.
        """
        import pyarrow as pa
        import pyarrow.parquet

        schema = result_features().arrow_schema
        names = json.dumps({str(class_id): name for class_id, name in id2label.items()}, ensure_ascii=False)
        schema = schema.with_metadata({**(schema.metadata or {}), "id2label": names})
        unfinished = f"{self.folder}/.{shard_name}.{uuid.uuid4().hex}.part"
        try:
            with (
                self.file_system.open(unfinished, "wb") as file,
                pyarrow.parquet.ParquetWriter(file, schema) as writer,
            ):
                waiting: list[Mapping[str, Any]] = []
                for row in rows:
                    waiting.append(row)
                    if len(waiting) == _ROWS_AT_ONCE:
                        writer.write_table(pa.Table.from_pylist(waiting, schema))
                        waiting = []
                writer.write_table(pa.Table.from_pylist(waiting, schema))
            self.file_system.mv(unfinished, self.path(shard_name))
        finally:
            if self.file_system.exists(unfinished):
                self.file_system.rm(unfinished)

    def _write(self, path: str, content: bytes) -> None:
        unfinished = f"{path}.{uuid.uuid4().hex}.part"
        self.file_system.pipe_file(unfinished, content)
        self.file_system.mv(unfinished, path)


def result_features() -> "Any":
    """
    The columns of results, as `datasets` reads them back.

    Returns:
        `datasets.Features`: `name` of the photo, `label_map` an indexed PNG of class ids at the photo's own size,
        `area_shares` of all classes by id, 0 to 1, and `error`, which says why the others are missing.
    """
    from datasets import Features, Image, List, Value

    return Features(
        {
            "name": Value("string"),
            "label_map": Image(),
            "area_shares": List(Value("float32")),
            "error": Value("string"),
        }
    )


def result_row(name: str, segmentation: Any) -> dict[str, Any]:
    """A photo's row, from its [`Segmentation`]."""
    png = io.BytesIO()
    write_png(png, segmentation.label_map, segmentation.colors)
    counts = segmentation.pixel_counts
    return {
        "name": name,
        "label_map": {"bytes": png.getvalue(), "path": None},
        "area_shares": (counts / counts.sum()).tolist(),
        "error": None,
    }


def error_row(name: str, error: Exception) -> dict[str, Any]:
    """The row of a photo that could not be read."""
    return {"name": name, "label_map": None, "area_shares": None, "error": str(error)}
