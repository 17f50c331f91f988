# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Endless training batches that depend on the seed alone.

The main process decides the order, and the workers only decode and augment, each sample with its own seed. So the same
seed makes the same batches for any number of workers, and training can resume at any batch. If the data are not
streamed, several processes together see what one process with their whole batch would see.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from datasets.distributed import split_dataset_by_node
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import tv_tensors

from .loading import SegmentationData
from .workers import prepare_worker, read_ahead


class Draw(NamedTuple):
    """One sample of one pass: all that a worker needs to make it."""

    epoch: int
    index: int
    row: dict[str, Any] | None  # of streamed data; other data are looked up by index


@dataclass(eq=False)
class TrainingExamples(Dataset):
    """
    Augmented samples by [`Draw`].

    Args:
        data ([`SegmentationData`]): Where images and label maps come from.
        transform (`Callable`): Maps `(image, label_map)` to the same, as `training_transforms` makes it.
        seed (`int`): The augmentation of a sample depends on it, on the epoch and on the sample's index.
    """

    data: SegmentationData
    transform: Callable
    seed: int

    def __getitem__(self, draw: Draw) -> dict[str, Any] | Exception:
        try:
            example = self.data.read(self.data.rows[draw.index] if draw.row is None else draw.row)
        except (ValueError, OSError) as error:
            return error  # raised by `read_batches`: a worker's own error would bury its message in tracebacks
        image = tv_tensors.Image(torch.from_numpy(np.array(example.image)).permute(2, 0, 1))
        label_map = tv_tensors.Mask(torch.from_numpy(example.label_map))
        with torch.random.fork_rng(devices=[]):  # the CPU's generator alone: no device takes part
            torch.default_generator.manual_seed(_derive_seed(self.seed, draw.epoch, draw.index))
            image, label_map = self.transform(image, label_map)
        return {
            "pixel_values": image.as_subclass(torch.Tensor),
            "labels": label_map.as_subclass(torch.Tensor),
            "name": example.name,
        }


@dataclass(eq=False)
class EndlessBatches(Sampler):
    """
    Batches of draws without end. Each pass over the data has its own order, and batches run on across passes.

    Args:
        rows (`datasets.Dataset` or `datasets.IterableDataset`): What is drawn from.
        batch_size (`int`): Samples a batch of this process.
        seed (`int`): Decides the orders.
        process_index, num_processes (`int`): Of each `num_processes` times `batch_size` samples this process takes
            the part with its index. Streamed data are first split by shards.
        first_batch (`int`): How many batches to leave out at the start, to resume a run.
        shuffle_buffer (`int`): For streamed data, among how many samples the next one is drawn.
    """

    rows: datasets.Dataset | datasets.IterableDataset
    batch_size: int
    seed: int = 0
    process_index: int = 0
    num_processes: int = 1
    first_batch: int = 0
    shuffle_buffer: int = 1000

    def __iter__(self) -> Iterator[list[Draw]]:
        if isinstance(self.rows, datasets.IterableDataset):
            return self._stream()
        return self._look_up()

    def _look_up(self) -> Iterator[list[Draw]]:
        length, orders = len(self.rows), {}
        position = (self.first_batch * self.num_processes + self.process_index) * self.batch_size
        while True:
            batch = []
            for place in range(position, position + self.batch_size):
                epoch, at = divmod(place, length)
                if epoch not in orders:
                    orders = {epoch: np.random.default_rng((self.seed, epoch)).permutation(length)}
                batch.append(Draw(epoch, int(orders[epoch][at]), None))
            yield batch
            position += self.num_processes * self.batch_size

    def _stream(self) -> Iterator[list[Draw]]:
        rows = self.rows.shuffle(seed=self.seed, buffer_size=self.shuffle_buffer)
        if self.num_processes > 1:
            rows = split_dataset_by_node(rows, self.process_index, self.num_processes)
        to_skip, batch, epoch = self.first_batch * self.batch_size, [], 0
        while True:
            rows.set_epoch(epoch)
            index = -1
            for index, row in enumerate(rows):
                if to_skip:
                    to_skip -= 1
                    continue
                batch.append(Draw(epoch, index * self.num_processes + self.process_index, row))
                if len(batch) == self.batch_size:
                    yield batch
                    batch = []
            if index < 0:
                raise ValueError(
                    f"Process {self.process_index} of {self.num_processes} found no sample in the stream: it has "
                    "fewer samples, or fewer shards, than there are processes."
                )
            epoch += 1


def make_training_loader(
    data: SegmentationData,
    transform: Callable,
    batch_size: int,
    seed: int = 0,
    num_workers: int = 0,
    process_index: int = 0,
    num_processes: int = 1,
    first_batch: int = 0,
    shuffle_buffer: int = 1000,
    pin_memory: bool = False,
) -> DataLoader:
    """
    Make an endless loader of augmented batches; see [`EndlessBatches`] for the arguments.

    Returns:
        `DataLoader` for [`read_batches`], of dictionaries: `pixel_values` `(batch, 3, height, width)`, float32;
        `labels` `(batch, height, width)`, whole numbers; `names`, the samples' names.
    """
    return DataLoader(
        TrainingExamples(data, transform, seed),
        batch_sampler=EndlessBatches(
            data.rows, batch_size, seed, process_index, num_processes, first_batch, shuffle_buffer
        ),
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # by default starting a loader draws from the generator that dropout uses
    )


def read_batches(loader: DataLoader) -> Generator[dict[str, Any], None, None]:
    """
    Yield the batches of a loader that `make_training_loader` made.

    Raises:
        ValueError, OSError: If a file of a batch cannot be read or used; the message names it.
        ChildProcessError: If a worker ends before its time.
    """
    for batch in read_ahead(loader):
        if isinstance(batch, Exception):
            raise batch
        yield batch


def collate(examples: list[dict[str, Any] | Exception]) -> dict[str, Any] | Exception:
    """Collate samples of equal size to one batch, or return the error of one of them."""
    if errors := [example for example in examples if isinstance(example, Exception)]:
        return errors[0]
    return {
        "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
        "labels": torch.stack([example["labels"] for example in examples]),
        "names": [example["name"] for example in examples],
    }


def _derive_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
