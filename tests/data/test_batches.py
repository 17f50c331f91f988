# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The same seed gives the same batches, however they are read."""

import itertools
from pathlib import Path

import psutil
import pytest
import torch
from helpers.training_runs import find_workers

from cgrseg_hf.data import load_data, workers
from cgrseg_hf.data.batches import EndlessBatches, make_training_loader, read_batches
from cgrseg_hf.data.transforms import training_transforms

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"


def read(count: int, streaming: bool = False, **options) -> list[dict]:
    data = load_data(PHOTOS, "train", streaming=streaming)
    transform = training_transforms((32, 32), (128, 64))
    options = {"batch_size": 4, "seed": 3, **options}
    return list(itertools.islice(make_training_loader(data, transform, **options), count))


def assert_equal(one: list[dict], other: list[dict]) -> None:
    assert [batch["names"] for batch in one] == [batch["names"] for batch in other]
    for left, right in zip(one, other):
        assert torch.equal(left["pixel_values"], right["pixel_values"])
        assert torch.equal(left["labels"], right["labels"])


@pytest.mark.parametrize("streaming", [False, True])
def test_any_number_of_workers_gives_the_same_batches_from_any_batch_on(streaming):
    expected = read(8, streaming, num_workers=0)
    assert_equal(read(8, streaming, num_workers=2), expected)
    assert_equal(read(3, streaming, first_batch=5), expected[5:])


def test_every_pass_shows_each_photo_once_in_another_order_and_form():
    first, second = read(3), read(6)[3:]
    names = [[name for batch in batches for name in batch["names"]] for batches in (first, second)]
    assert len(set(names[0])) == len(set(names[1])) == 12
    assert names[0] != names[1]
    where = {name: (batch, at) for batch in second for at, name in enumerate(batch["names"])}
    batch, at = where[first[0]["names"][0]]
    assert not torch.equal(batch["pixel_values"][at], first[0]["pixel_values"][0])


def test_batches_run_on_across_passes():
    batches = list(itertools.islice(EndlessBatches(range(5), batch_size=3, seed=0), 5))
    draws = [draw for batch in batches for draw in batch]
    assert [draw.epoch for draw in draws] == [0] * 5 + [1] * 5 + [2] * 5
    assert all(sorted(draw.index for draw in draws[start : start + 5]) == list(range(5)) for start in (0, 5, 10))


def test_processes_share_what_one_would_read():
    alone = [list(itertools.islice(EndlessBatches(range(7), 4, 1), 6))]
    shared = [list(itertools.islice(EndlessBatches(range(7), 2, 1, process, 2), 6)) for process in range(2)]
    together = [one + other for one, other in zip(*shared)]
    assert together == alone[0]


@pytest.mark.parametrize("num_shards", [3, 4])
def test_processes_share_a_stream(num_shards):
    stream = load_data(PHOTOS, "train").rows.to_iterable_dataset(num_shards=num_shards)
    passes = [
        [draw for batch in itertools.islice(EndlessBatches(stream, 3, 1, process, 2), 2) for draw in batch]
        for process in range(2)
    ]
    draws = passes[0] + passes[1]
    assert {draw.epoch for draw in draws} == {0}
    assert len({draw.row["name"] for draw in draws}) == len({draw.index for draw in draws}) == 12


def test_a_stream_too_short_for_all_processes_is_refused():
    stream = load_data(PHOTOS, "train").rows.select([0]).to_iterable_dataset()
    with pytest.raises(ValueError, match="Process 1 of 2 found no sample"):
        next(iter(EndlessBatches(stream, 1, process_index=1, num_processes=2)))


@pytest.mark.parametrize("error", [RuntimeError("odd"), EOFError(), ConnectionResetError()])
def test_other_errors_of_workers_stay_as_they_are(error, monkeypatch):
    def batches():
        yield 1
        raise error

    monkeypatch.setattr(workers, "_SECONDS_TO_SIGNAL", 0)
    read = workers.read_ahead(batches())
    assert next(read) == 1
    with pytest.raises(type(error)) as raised:
        next(read)
    assert raised.value is error


def fail(image, label_map):
    raise KeyError("a fault of the code")


def test_an_error_ends_the_workers():
    batches = read_batches(make_training_loader(load_data(PHOTOS, "train"), fail, 2, num_workers=2))
    with pytest.raises(KeyError) as error:
        next(batches)
    assert error.value.__traceback__ and not find_workers(psutil.Process())


def test_seeds_matter():
    assert [batch["names"] for batch in read(3, seed=4)] != [batch["names"] for batch in read(3)]


def test_reading_does_not_disturb_the_random_numbers_of_training():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    read(2)
    assert torch.equal(torch.rand(3), expected)
