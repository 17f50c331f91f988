# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Shards of photos on a local Ray cluster, one of whose workers is killed on the way."""

import os
import signal
import tarfile
import threading
import time
from pathlib import Path

import datasets
import numpy as np
import psutil
import pytest
from PIL import Image

from cgrseg_hf.cluster import results
from cgrseg_hf.cluster.results import ResultStore
from cgrseg_hf.cluster.runner import _until_broken
from cgrseg_hf.cluster.shards import list_shards, read_photos
from cgrseg_hf.inference import Segmentation, Segmenter

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos" / "images"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eighteen small photos."""
    folder = tmp_path_factory.mktemp("photos")
    for index, path in enumerate(sorted(PHOTOS.glob("*.jpg")) * 2):
        with Image.open(path) as image:
            image.resize((96 + 8 * (index % 3), 64)).save(folder / f"{index:02d}-{path.stem}.jpg")
    return folder


def names(shards):
    return [shard.name for shard in shards]


def test_shards_of_a_folder(photos):
    shards = list_shards(str(photos), shard_size=5)
    files = sorted(path.name for path in photos.iterdir())
    assert [len(shard.files) for shard in shards][:-1] == [5] * (len(files) // 5)
    assert [photo.name for shard in shards for photo in read_photos(shard)] == files
    assert names(list_shards(str(photos), shard_size=5)) == names(shards)
    assert photos.joinpath(files[0]).read_bytes() == next(read_photos(shards[0])).read()


def test_a_photo_that_is_gone_is_no_picture(tmp_path):
    photo = tmp_path / "gone.jpg"
    photo.touch()
    (shard,) = list_shards(str(tmp_path))
    photo.unlink()
    (read,) = read_photos(shard)
    assert (read.name, read.read()) == ("gone.jpg", b"")


def test_a_changed_file_makes_another_shard(photos, tmp_path):
    for path in photos.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = names(list_shards(str(tmp_path), shard_size=5))
    assert before == names(list_shards(str(photos), shard_size=5))
    changed = sorted(tmp_path.iterdir())[7]
    changed.write_bytes(changed.read_bytes() + b"more")
    after = names(list_shards(str(tmp_path), shard_size=5))
    assert [one == other for one, other in zip(before, after)] == [True, False, *[True] * (len(before) - 2)]


def test_shards_of_parquet_and_tar(photos, tmp_path):
    files = sorted(photos.iterdir())[:4]
    rows = datasets.Dataset.from_dict(
        {"caption": list("abcd"), "image": [{"bytes": path.read_bytes(), "path": path.name} for path in files]},
        features=datasets.Features({"caption": datasets.Value("string"), "image": datasets.Image()}),
    )
    (tmp_path / "parquet").mkdir()
    rows.to_parquet(tmp_path / "parquet" / "part.parquet")
    (tmp_path / "tar").mkdir()
    with tarfile.open(tmp_path / "tar" / "part.tar", "w") as archive:
        archive.add(__file__, "caption.txt")
        for path in files:
            archive.add(path, path.name)
    for kind in ("parquet", "tar"):
        (shard,) = list_shards(str(tmp_path / kind))
        assert shard.kind == kind
        read = list(read_photos(shard))
        assert [photo.read() for photo in read] == [path.read_bytes() for path in files]
        assert [photo.name.rsplit("/")[-1] for photo in read] == [path.name for path in files]
    (shard,) = list_shards(str(tmp_path / "parquet"))
    with pytest.raises(ValueError, match="'photo', but caption, image"):
        list(read_photos(shard, "photo"))


def test_another_archive_leaves_the_others_shards(tmp_path):
    for name in "bcd":
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(__file__, "caption.txt")
    before = names(list_shards(str(tmp_path)))
    (tmp_path / "a.tar").write_bytes((tmp_path / "b.tar").read_bytes())
    after = names(list_shards(str(tmp_path)))
    assert len(set(after)) == 4 and set(before) < set(after)


def test_a_broken_archive_is_noted_and_ends_alone(photos, tmp_path):
    with tarfile.open(tmp_path / "part.tar", "w") as archive:
        for path in sorted(photos.iterdir())[:3]:
            archive.add(path, path.name)
    whole = (tmp_path / "part.tar").read_bytes()
    (tmp_path / "part.tar").write_bytes(whole[: len(whole) // 2])
    (shard,) = list_shards(str(tmp_path))
    noted = []
    read = list(_until_broken(read_photos(shard), shard, lambda photo, error: noted.append((photo.name, error))))
    assert 1 <= len(read) < 3
    assert [name.endswith("part.tar") for name, _ in noted] == [True]


def test_nothing_to_segment(tmp_path):
    with pytest.raises(ValueError, match="has no pictures"):
        list_shards(str(tmp_path))
    with pytest.raises(ValueError, match="does not exist"):
        list_shards(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="shard_size=0: give the number"):
        list_shards(str(tmp_path), shard_size=0)


def test_results_appear_whole_or_not_at_all(tmp_path):
    store = ResultStore(str(tmp_path))
    row = {"name": "a", "label_map": None, "area_shares": None, "error": "broken"}

    def rows():
        yield row
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.write_rows("000000", rows(), {0: "road"})
    assert not list(tmp_path.iterdir())
    store.write_rows("000000", [row], {0: "road"})
    assert store.finished() == {"000000"}


def test_many_results_come_back_in_their_order(tmp_path):
    label_map = np.array([[0, 1], [1, 1]], dtype=np.uint8)
    segmentation = Segmentation(label_map, {0: "road", 1: "sky"})
    count = results._ROWS_AT_ONCE + 1
    rows = (results.result_row(str(index), segmentation) for index in range(count))
    ResultStore(str(tmp_path)).write_rows("000000", rows, {0: "road", 1: "sky"})
    table = datasets.Dataset.from_parquet(str(tmp_path / "000000.parquet"), cache_dir=str(tmp_path / "cache"))
    assert table["name"][:] == [str(index) for index in range(count)]
    assert np.array_equal(np.asarray(table[-1]["label_map"]), label_map)
    assert table[-1]["area_shares"] == [0.25, 0.75]


def test_results_of_other_settings_are_not_mixed(tmp_path):
    store = ResultStore(str(tmp_path))
    store.begin({"model": "one"})
    store.begin({"model": "one"})
    with pytest.raises(ValueError, match="model was 'one', now 'two'"):
        store.begin({"model": "two"})


def find_actors():
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
def test_a_killed_worker_and_a_restart(photos, tmp_path):
    """Every photo has its result, that of one process; nothing finished is done twice."""
    ray = pytest.importorskip("ray")
    from cgrseg_hf.cluster import segment_on_cluster

    source, output = tmp_path / "photos", tmp_path / "results"
    source.mkdir()
    for path in photos.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    (source / "99-broken.jpg").write_bytes(b"no picture")
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
        result = segment_on_cluster(source, output, engine="torch", shard_size=1, num_actors=2)
        killer.join()
        num_photos = len(list(source.iterdir()))
        assert killed
        assert (result.num_shards, result.num_shards_before, result.num_photos) == (num_photos, 0, num_photos)
        assert list(result.errors) == ["99-broken.jpg"]

        times = {path: path.stat().st_mtime_ns for path in output.glob("*.parquet")}
        again = sorted(times)[3]
        again.unlink()
        result = segment_on_cluster(source, output, engine="torch", shard_size=1, num_actors=1)
        assert (result.num_shards_before, result.num_photos) == (num_photos - 1, 1)
        assert all(path.stat().st_mtime_ns == at for path, at in times.items() if path != again)
    finally:
        ray.shutdown()

    table = datasets.load_dataset(
        "parquet", data_files=str(output / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    rows = {row["name"]: row for row in table}
    assert sorted(rows) == sorted(path.name for path in source.iterdir())
    segmenter = Segmenter.from_pretrained(engine="torch")
    for name, row in rows.items():
        if name == "99-broken.jpg":
            assert row["label_map"] is None
            assert "cannot be read" in row["error"]
            continue
        expected = segmenter(source / name)
        assert np.array_equal(np.asarray(row["label_map"]), expected.label_map)
        shares = expected.pixel_counts / expected.pixel_counts.sum()
        np.testing.assert_allclose(row["area_shares"], shares, rtol=1e-6)
