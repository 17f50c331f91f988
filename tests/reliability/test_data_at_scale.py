# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A hundred thousand pairs through the training loader: each once, in flat memory; and a worker that is killed."""

import io
import json
import re
import signal
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.training_runs import find_workers
from PIL import Image
from torch.utils.data import DataLoader

from cgrseg_hf.data import load_data
from cgrseg_hf.data.batches import make_training_loader, read_batches
from cgrseg_hf.data.workers import describe_lost_worker

PAIRS = 100_000
SHARDS = 50
BATCH_SIZE = 50
SIZE = 64
CLASSES = 171
BLOCK = 8  # pixels a side that have one color and one label
SAMPLES = 100  # of memory and open files, in a pass
MEMORY_BOUND = 64  # MiB that all processes together may grow by between the second tenth of a pass and its end
FILES_BOUND = 8  # open files, likewise: batches on their way take some


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def make_pair(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (64, 64, 3) and label map (64, 64) of a number, no two alike."""
    generator = np.random.default_rng(index)
    colors = generator.integers(0, 256, (SIZE // BLOCK, SIZE // BLOCK, 3), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, (SIZE // BLOCK, SIZE // BLOCK), dtype=np.uint8)
    colors[0, 0] = index & 255, index >> 8 & 255, index >> 16
    return tuple(values.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1) for values in (colors, labels))


def write_shards(folder: Path, num_pairs: int, num_shards: int) -> Path:
    """Parquet files of pairs in their order, as the Hub has them."""
    folder.mkdir(parents=True)
    (folder / "id2label.json").write_text(json.dumps({index: f"class {index}" for index in range(CLASSES)}))
    for shard, indices in enumerate(np.array_split(np.arange(num_pairs), num_shards)):
        columns: dict[str, list[dict[str, Any]]] = {"image": [], "annotation": []}
        for index in indices.tolist():
            for name, values in zip(columns, make_pair(index)):
                buffer = io.BytesIO()
                Image.fromarray(values).save(buffer, "png", compress_level=1)
                columns[name].append({"bytes": buffer.getvalue(), "path": f"{index:06d}.png"})
        pq.write_table(pa.table(columns), folder / f"train-{shard:05d}-of-{num_shards:05d}.parquet", row_group_size=500)
    return folder


def make_loader(folder: Path, streaming: bool, num_workers: int, batch_size: int) -> DataLoader:
    """Without augmentation, so that each pair can be compared with what was written."""
    data = load_data(folder, "train", streaming=streaming)
    return make_training_loader(data, lambda *pair: pair, batch_size, num_workers=num_workers)


@dataclass
class Pass:
    """What was seen in one pass over the data: pairs in their order, MiB and open files of all processes over time."""

    order: list[int] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def sample(self) -> None:
        processes = [psutil.Process(), *find_workers(psutil.Process())]
        self.memory.append(sum(map(resident_memory, processes)))
        self.files.append(sum(process.num_fds() for process in processes))

    def check(self, num_pairs: int) -> None:
        """Every pair came once, and neither memory nor open files grew."""
        assert sorted(self.order) == list(range(num_pairs))
        for values, bound in ((self.memory, MEMORY_BOUND), (self.files, FILES_BOUND)):
            tenth = len(values) // 10
            assert np.median(values[-tenth:]) - np.median(values[tenth : 2 * tenth]) <= bound


def resident_memory(process: psutil.Process) -> float:
    """MiB that a process holds apart from mapped files, of which the system keeps as many as there is room for."""
    status = Path("/proc", str(process.pid), "status").read_text()
    lines = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Rss"))
    return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def read_pass(loader: DataLoader, num_pairs: int) -> Pass:
    """Read a number of pairs and compare each with what was written."""
    seen = Pass()
    num_batches = num_pairs // loader.batch_sampler.batch_size
    for number, batch in enumerate(islice(read_batches(loader), num_batches)):
        images = batch["pixel_values"].permute(0, 2, 3, 1).numpy()
        for name, image, label_map in zip(batch["names"], images, batch["labels"].numpy()):
            index = int(name.removesuffix(".png"))
            expected_image, expected_labels = make_pair(index)
            np.testing.assert_array_equal(image, expected_image)
            np.testing.assert_array_equal(label_map, expected_labels)
            seen.order.append(index)
        if number % max(num_batches // SAMPLES, 1) == 0:
            seen.sample()
    return seen


@pytest.fixture(scope="module")
def few_pairs(tmp_path_factory) -> Path:
    """Some hundreds of pairs in shards."""
    return write_shards(tmp_path_factory.mktemp("few") / "data", 300, 3)


@pytest.mark.parametrize("streaming", [True, False])
def test_every_pair_comes_once_and_as_it_was_written(few_pairs, streaming):
    seen = read_pass(make_loader(few_pairs, streaming, num_workers=1, batch_size=10), 300)
    seen.check(300)
    assert seen.order != sorted(seen.order)


@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGKILL, "Killed.*--num-workers"), (signal.SIGBUS, "Bus error.*--shm-size")]
)
def test_a_worker_that_is_killed_is_named(few_pairs, number, said):
    batches = read_batches(make_loader(few_pairs, False, num_workers=2, batch_size=10))
    next(batches)
    worker, _ = find_workers(psutil.Process())
    with pytest.raises((ChildProcessError, RuntimeError)) as error:  # the latter if it arises outside the reader
        worker.send_signal(number)
        for _ in batches:
            pass
    message = describe_lost_worker(error.value) or str(error.value)
    assert re.search(rf"pid {worker.pid}\) is killed by signal: {said}", message)
    batches.close()
    assert not find_workers(psutil.Process())


@pytest.mark.reliability
def test_a_hundred_thousand_pairs(tmp_path):
    shards = write_shards(tmp_path / "shards", PAIRS, SHARDS)
    orders = []
    for streaming in (True, False):
        for num_workers in (1, 2):
            seen = read_pass(make_loader(shards, streaming, num_workers, BATCH_SIZE), PAIRS)
            seen.check(PAIRS)
            orders.append(seen.order)
    assert orders[0] == orders[1]
    assert orders[2] == orders[3] == np.random.default_rng((0, 0)).permutation(PAIRS).tolist()
