# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Shards of photos on a local Ray cluster, one of whose workers is killed on the way."""

import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import datasets
import numpy as np
import psutil
import pyarrow.parquet
import pytest
from PIL import Image

from cgrseg_hf import cluster
from cgrseg_hf.inference import Segmenter

NUM_PHOTOS = 18


@pytest.fixture(scope="module")
def source(photos, tmp_path_factory) -> Path:
    """Eighteen small photos, and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for index, path in enumerate((sorted(photos.glob("*.jpg")) * 2)[:NUM_PHOTOS]):
        with Image.open(path) as image:
            image.resize((96 + 8 * (index % 3), 64)).save(folder / f"{index:02d}.jpg")
    (folder / "99-broken.jpg").write_bytes(b"no picture")
    return folder


def read(source: Path, column: str | None = None) -> tuple[list[tuple[str, bytes]], dict[str, str]]:
    """Names and contents of all photos of a source, and errors, as actors read them."""
    errors: dict[str, str] = {}
    shards = cluster.list_shards(str(source), 5)
    photos = [photo for one in shards for photo in cluster.read_photos(one["files"], one["root"], column, errors)]
    return [(photo.name, photo.read()) for photo in photos], errors


def names(source: Path) -> list[str]:
    return [shard["name"] for shard in cluster.list_shards(str(source), 5)]


def write_tar(file: Path, contents: list[Path]) -> None:
    with tarfile.open(file, "w") as archive:
        archive.add(__file__, "caption.txt")
        for path in contents:
            archive.add(path, path.name)


def test_folders_parquet_files_and_archives_have_the_same_photos(source, tmp_path):
    files = sorted(source.iterdir())
    expected = [(path.name, path.read_bytes()) for path in files]
    assert read(source) == (expected, {})
    rows = datasets.Dataset.from_dict(
        {"caption": ["a"] * len(files), "image": [{"bytes": content, "path": name} for name, content in expected]},
        features=datasets.Features({"caption": datasets.Value("string"), "image": datasets.Image()}),
    )
    rows.to_parquet(tmp_path / "part.parquet")
    rows = [(f"part.parquet/{row}/{name}", content) for row, (name, content) in enumerate(expected)]
    assert read(tmp_path) == (rows, {}) == read(tmp_path / "part.parquet")
    with pytest.raises(ValueError, match="'photo', but caption, image"):
        read(tmp_path, "photo")
    write_tar(tmp_path / "part.tar", files)
    assert read(tmp_path / "part.tar") == ([(f"part.tar/{name}", content) for name, content in expected], {})


def test_what_cannot_be_read_is_noted(source, tmp_path):
    write_tar(tmp_path / "part.tar", sorted(source.iterdir())[:3])
    whole = (tmp_path / "part.tar").read_bytes()
    (tmp_path / "part.tar").write_bytes(whole[: len(whole) // 2])
    photos, errors = read(tmp_path)
    assert 1 <= len(photos) < 3 and errors.keys() == {"part.tar"}
    (tmp_path / "part.tar").unlink()
    gone = [f"file://{tmp_path}/gone.jpg"]  # since the shards were listed
    assert list(cluster.read_photos(gone, str(tmp_path), None, errors)) == [] and "gone.jpg" in errors


def test_only_shards_with_changed_files_are_others(source, tmp_path):
    for path in source.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = names(tmp_path)
    assert before == names(source) and len(before) == 4
    changed = sorted(tmp_path.iterdir())[7]
    changed.write_bytes(changed.read_bytes() + b"more")
    assert [one == other for one, other in zip(before, names(tmp_path))] == [True, False, True, True]
    for name in "bcda":
        before = set(names(tmp_path)) if name == "a" else set()
        write_tar(tmp_path / f"{name}.tar", [])
    assert len(names(tmp_path)) == 4 and before < set(names(tmp_path))


def test_nothing_to_segment(tmp_path):
    for source, size, message in ((tmp_path, 5, "no photos"), (tmp_path / "no", 5, "exist"), (tmp_path, 0, "size=0")):
        with pytest.raises(ValueError, match=message):
            cluster.list_shards(str(source), size)


def test_results_appear_whole_or_not_at_all(tmp_path):
    results = cluster.ResultStore(str(tmp_path))

    def rows(count: int | None):
        yield from ({"name": str(number), "error": "broken"} for number in range(count or 1))
        if count is None:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        results.write("000000", rows(None), {0: "road"})
    assert not list(tmp_path.iterdir())
    count = cluster._ROWS_AT_ONCE + 1
    assert results.write("000000", rows(count), {0: "road"}) == count
    assert results.list_finished() == {"000000"}
    table = pyarrow.parquet.read_table(tmp_path / "000000.parquet")
    assert table["name"].to_pylist() == [str(number) for number in range(count)]
    assert table.schema.metadata[b"id2label"] == b'{"0": "road"}'


def test_results_of_other_settings_are_not_mixed(tmp_path):
    results = cluster.ResultStore(str(tmp_path))
    for _ in range(2):
        results.check_settings({"model": "one"})
    with pytest.raises(ValueError, match="model was 'one', now 'two'"):
        results.check_settings({"model": "two"})


def test_importing_it_is_light():
    program = "import cgrseg_hf.cluster, sys; print({'torch', 'transformers', 'ray', 'datasets'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def find_actors() -> list[int]:
    """Process ids of the segmenting workers of this process's cluster."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "MapWorker" in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.long
def test_a_killed_worker_and_a_restart(source, tmp_path):
    """Every photo has its result, that of one process; nothing finished is computed twice."""
    ray = pytest.importorskip("ray")
    output, options = tmp_path / "results", {"engine": "torch", "shard_size": 1}
    killed = []

    def kill_one():
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            if len(list(output.glob("*.parquet"))) >= 2 and (actors := find_actors()):
                os.kill(actors[0], signal.SIGKILL)
                killed.append(actors[0])
            time.sleep(0.01)

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    try:
        killer = threading.Thread(target=kill_one, daemon=True)
        killer.start()
        result = cluster.segment_on_cluster(source, output, num_actors=2, **options)
        killer.join()
        assert killed
        num_shards = NUM_PHOTOS + 1
        assert (result.num_shards, result.num_shards_before, result.num_photos) == (num_shards, 0, num_shards)
        assert list(result.errors) == ["99-broken.jpg"]

        times = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
        again = sorted(times)[3]
        again.unlink()
        result = cluster.segment_on_cluster(source, output, num_actors=1, **options)
        assert (result.num_shards_before, result.num_photos) == (num_shards - 1, 1)
        assert all(path.stat().st_mtime_ns == at for path, at in times.items() if path != again)
    finally:
        ray.shutdown()

    files, cache = str(output / "*.parquet"), str(tmp_path / "cache")
    table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    rows = {row["name"]: row for row in table}
    assert sorted(rows) == sorted(path.name for path in source.iterdir())
    broken = rows.pop("99-broken.jpg")
    assert broken["label_map"] is None and "cannot be read" in broken["error"]
    segmenter = Segmenter.from_pretrained(engine="torch")
    for name, row in rows.items():
        expected = segmenter(source / name)
        assert np.array_equal(np.asarray(row["label_map"]), expected.label_map)
        shares = expected.pixel_counts / expected.pixel_counts.sum()
        np.testing.assert_allclose(row["area_shares"], shares, rtol=1e-6)
