# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A hundred thousand pairs through the training loader: each once, in flat memory; and a reader that is killed."""

import io
import json
import re
import signal
import time
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
import torch
from helpers.training_runs import assert_same_weights, find_workers, wait_for_step
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader

from cgrseg_hf.data import load_data
from cgrseg_hf.data.batches import make_training_loader, read_batches
from cgrseg_hf.data.workers import describe_lost_worker
from cgrseg_hf.training import checkpoints

PAIRS = 100_000
SHARDS = 50
BATCH_SIZE = 50
SIZE = 64
CLASSES = 171
BLOCK = 8  # pixels a side that have one color and one label
SAMPLES = 100  # of memory and open files, in a pass
MEMORY_BOUND = 64  # MiB that all processes together may grow by between the first tenth of a pass and its end
FILES_BOUND = 8  # open files, likewise: batches on their way take some


def make_pair(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (64, 64, 3) and label map (64, 64) of a number, no two alike."""
    generator = np.random.default_rng(index)
    colors = generator.integers(0, 256, (SIZE // BLOCK, SIZE // BLOCK, 3), dtype=np.uint8)
    labels = generator.integers(0, CLASSES, (SIZE // BLOCK, SIZE // BLOCK), dtype=np.uint8)
    colors[0, 0] = index & 255, index >> 8 & 255, index >> 16
    return tuple(values.repeat(BLOCK, axis=0).repeat(BLOCK, axis=1) for values in (colors, labels))


def encode(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def write_shards(folder: Path, num_pairs: int, num_shards: int) -> Path:
    """Parquet files of pairs in their order, as the Hub has them."""
    folder.mkdir(parents=True)
    (folder / "id2label.json").write_text(json.dumps({index: f"class {index}" for index in range(CLASSES)}))
    for shard, indices in enumerate(np.array_split(np.arange(num_pairs), num_shards)):
        columns: dict[str, list[dict[str, Any]]] = {"image": [], "annotation": []}
        for index in indices.tolist():
            for name, values in zip(columns, make_pair(index)):
                columns[name].append({"bytes": encode(values), "path": f"{index:06d}.png"})
        pq.write_table(pa.table(columns), folder / f"train-{shard:05d}-of-{num_shards:05d}.parquet", row_group_size=500)
    return folder


def leave_as_it_is(image: torch.Tensor, label_map: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In place of the augmentation, so that each pair can be compared with what was written."""
    return image, label_map


def make_loader(folder: Path, streaming: bool, num_workers: int, batch_size: int) -> DataLoader:
    data = load_data(folder, "train", streaming=streaming)
    return make_training_loader(data, leave_as_it_is, batch_size, num_workers=num_workers)


@dataclass
class Pass:
    """
    What was seen of one pass over the data.

    Args:
        order (`list[int]`): The pairs as they came.
        wrong (`int`): Pairs whose image or label map was another than what was written.
        seconds (`float`): From the first batch to the last.
        memory (`list[float]`): MiB of all processes at each sample: what is resident and of no file.
        files (`list[int]`): Open files of all processes at each sample.
    """

    order: list[int] = field(default_factory=list)
    wrong: int = 0
    seconds: float = 0.0
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def sample(self) -> None:
        processes = [psutil.Process(), *find_workers(psutil.Process())]
        self.memory.append(sum(map(resident_memory, processes)))
        self.files.append(sum(process.num_fds() for process in processes))

    def growth(self, values: list[float]) -> float:
        """By how much the median of the last tenth is above that of the tenth after the first."""
        tenth = len(values) // 10
        return float(np.median(values[-tenth:]) - np.median(values[tenth : 2 * tenth]))


def resident_memory(process: psutil.Process) -> float:
    """MiB that a process holds apart from mapped files, of which the system keeps in memory what there is room for."""
    status = Path("/proc", str(process.pid), "status").read_text()
    lines = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Rss"))
    return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024


def read_pass(loader: DataLoader, num_pairs: int) -> Pass:
    """Read so many pairs and compare each with what was written."""
    seen = Pass()
    num_batches = num_pairs // loader.batch_sampler.batch_size
    batches = read_batches(loader)
    begin = time.monotonic()
    for number, batch in enumerate(islice(batches, num_batches)):
        images = batch["pixel_values"].permute(0, 2, 3, 1).numpy()
        for name, image, label_map in zip(batch["names"], images, batch["labels"].numpy()):
            index = int(name.removesuffix(".png"))
            expected_image, expected_labels = make_pair(index)
            seen.order.append(index)
            seen.wrong += not (np.array_equal(image, expected_image) and np.array_equal(label_map, expected_labels))
        if number % max(num_batches // SAMPLES, 1) == 0:
            seen.sample()
    seen.seconds = time.monotonic() - begin
    return seen


def count_faults(seen: Pass, num_pairs: int) -> int:
    """Pairs that were wrong, missing or there more than once."""
    counts = np.bincount(seen.order, minlength=num_pairs)
    return seen.wrong + int((counts != 1).sum())


@pytest.fixture(scope="module")
def few_pairs(tmp_path_factory) -> Path:
    """Some hundreds of pairs in shards."""
    return write_shards(tmp_path_factory.mktemp("few") / "data", 300, 3)


@pytest.mark.parametrize("streaming", [True, False])
def test_every_pair_comes_once_and_as_it_was_written(few_pairs, streaming, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    seen = read_pass(make_loader(few_pairs, streaming, num_workers=1, batch_size=10), 300)
    assert count_faults(seen, 300) == 0
    assert seen.order != sorted(seen.order)
    assert seen.growth(seen.files) <= FILES_BOUND


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "Killed.*memory.*fewer.*--num-workers"),
        (signal.SIGBUS, "Bus error.*shared memory.*--shm-size"),
        (signal.SIGSEGV, "Segmentation fault.*--num-workers 0 shows"),
    ],
)
def test_a_reader_that_is_killed_is_named(few_pairs, tmp_path, monkeypatch, number, said):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    batches = read_batches(make_loader(few_pairs, False, num_workers=1, batch_size=10))
    next(batches)
    (worker,) = find_workers(psutil.Process())
    with pytest.raises((ChildProcessError, RuntimeError)) as error:  # the latter where it arises outside the reader
        worker.send_signal(number)
        for _ in batches:
            pass
    message = describe_lost_worker(error.value) or str(error.value)
    assert re.search(rf"pid {worker.pid}\) was lost, killed by signal: {said}", message)


def lose_a_worker(config, start_command) -> tuple[str, int]:
    """
    Kill a worker of a real training, let it go on, and compare it with one that was left alone.

    Returns:
        What the run said, and the step that it went on from.
    """
    whole = start_command(config.replace(output=config.output + "-whole"))
    output, _ = whole.communicate(timeout=900)
    assert whole.returncode == 0, output
    process = start_command(config)
    folder = Path(config.output)
    wait_for_step(folder, config.save_steps + 1, process)
    find_workers(psutil.Process(process.pid))[0].kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "Traceback" not in output
    (message,) = re.findall(r"A process that reads images ahead .*--resume goes on from it\.", output)
    newest = checkpoints.list_checkpoints(folder / "checkpoints")[-1]
    step = checkpoints.load_state(newest)["step"]
    resumed = start_command(config, "--resume")
    output, _ = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, output
    assert f"Going on after step {step}," in output
    assert_same_weights(
        *(load_file(Path(place, "last", "model.safetensors")) for place in (config.output, config.output + "-whole"))
    )
    return re.sub(r"pid \d+", "pid …", message).replace(config.output, "runs/mine"), step


@pytest.mark.reliability
def test_a_hundred_thousand_pairs(tiny_training, start_command, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    shards = write_shards(tmp_path / "shards", PAIRS, SHARDS)
    failures = 0
    by_one_worker: list[int] = []
    for way, streaming, num_workers in (
        ("streamed", True, 1),
        ("streamed", True, 2),
        ("looked up", False, 1),
        ("looked up", False, 2),
    ):
        seen = read_pass(make_loader(shards, streaming, num_workers, BATCH_SIZE), PAIRS)
        if streaming:
            by_one_worker = by_one_worker or seen.order
            expected = by_one_worker
        else:
            expected = np.random.default_rng((0, 0)).permutation(PAIRS).tolist()  # the seed's order of pass 0
        faults = count_faults(seen, PAIRS) + (seen.order != expected)
        memory, open_files = seen.growth(seen.memory), seen.growth(seen.files)
        faults += (memory > MEMORY_BOUND) + (open_files > FILES_BOUND)
        failures += faults
        rate = f"{PAIRS / seen.seconds / num_workers:.0f}"
        sizes = f"{np.median(seen.memory):.0f} ({memory:+.1f})"
        counts = f"{np.median(seen.files):.0f} ({open_files:+.0f})"
        print(way, num_workers, len(set(seen.order)), faults, rate, sizes, counts, sep=" | ", flush=True)

    config = tiny_training.replace(
        data=str(shards), streaming=True, num_workers=2, max_steps=30, save_steps=5, batch_size=4, ema_decay=0.9
    )
    lose_a_worker(config, start_command)
    assert failures == 0
