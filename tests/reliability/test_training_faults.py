# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Full disks, lost processes, signals, bad files and bad numbers: what a training says of them, and how it resumes."""

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers.training_runs import ONE_PROCESS, TWO_PROCESSES, assert_same_weights, find_workers, wait_for_step
from PIL import Image
from safetensors.torch import load_file, save_file

from cgrseg_hf.data.batches import EndlessBatches
from cgrseg_hf.training import TrainingConfig, TrainingStoppedError, checkpoints, train
from cgrseg_hf.training.run_log import RunLog
from cgrseg_hf.utils.processes import make_accelerator

PAIRS = 48
CHECKED_PAIRS = 32  # before training starts
STEPS = 16
SAVE_STEPS = 5
STRIKE_STEP = 6  # after which signals are sent
BAD_STEP = 9  # of the bad pair
SECONDS_TO_END = 60
LAUNCHERS = {1: ONE_PROCESS, 2: TWO_PROCESSES}


@pytest.fixture
def faulty_training(tiny_training, small_data, tmp_path) -> TrainingConfig:
    """A run over the small photos several times over, under other names, with dropout and a moving average."""
    folder = tmp_path / "mydata"
    for kind, suffix in (("images", "jpg"), ("annotations", "png")):
        (folder / "train" / kind).mkdir(parents=True)
        files = sorted((small_data / "train" / kind).iterdir())
        for index in range(PAIRS):
            shutil.copy(files[index % len(files)], folder / "train" / kind / f"{index:02d}.{suffix}")
    shutil.copy(small_data / "id2label.json", folder)
    return tiny_training.replace(data=str(folder), max_steps=STEPS, save_steps=SAVE_STEPS, num_workers=2, ema_decay=0.9)


@contextlib.contextmanager
def bad_file(config: TrainingConfig, kind: str, step: int = BAD_STEP) -> Iterator[Path]:
    """Cut an image short, or put an id that is no class into an annotation, of a pair that comes at a step."""
    batches = iter(EndlessBatches(range(PAIRS), config.batch_size, config.seed))
    draws = [next(batches) for _ in range(step)][-1]
    name = next(f"{draw.index:02d}" for draw in draws if draw.index >= CHECKED_PAIRS)
    (file,) = Path(config.data, "train", kind).glob(f"{name}.*")
    content = file.read_bytes()
    if kind == "images":
        file.write_bytes(content[:200])
    else:
        ids = np.array(Image.open(file))
        ids[3, 5] = 200
        Image.fromarray(ids).save(file)
    yield file
    file.write_bytes(content)


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a number of bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_a_bad_pair_is_named_and_no_step_is_lost(faulty_training, kind):
    config = faulty_training.replace(max_steps=2, batch_size=2, num_workers=1)
    whole = train(config.replace(output=config.output + "-whole"))
    with bad_file(config, kind, step=2) as file, pytest.raises(TrainingStoppedError, match=file.name) as error:
        train(config)
    (checkpoint,) = checkpoints.list_checkpoints(Path(config.output, "checkpoints"))
    assert checkpoints.checkpoint_step(checkpoint) == 1
    assert f"after step 1. The last checkpoint is {checkpoint}. --resume" in str(error.value)
    assert "DataLoader" not in str(error.value)
    resumed = train(config, resume=True)
    assert_same_weights(*(load_file(result.model / "model.safetensors") for result in (whole, resumed)))


@pytest.mark.parametrize("size", [100_000, 700_000])  # less than the weights', less than the optimizer's file
def test_a_full_disk_names_the_checkpoint(faulty_training, size):
    config = faulty_training.replace(max_steps=1, batch_size=2, num_workers=0)
    with small_files(size), pytest.raises(TrainingStoppedError, match=r"step-00000001 .*MiB are free.*There is no"):
        train(config)
    assert not list(Path(config.output, "checkpoints").iterdir())


def test_damaged_checkpoints_are_named(faulty_training):
    config = faulty_training.replace(max_steps=3, save_steps=1, batch_size=2, num_workers=0)
    train(config)
    older, newer = checkpoints.list_checkpoints(Path(config.output, "checkpoints"))
    os.truncate(newer / "optimizer.bin", 1000)
    with pytest.raises(ValueError, match=rf"{newer} cannot be loaded.*Remove this folder"):
        train(config, resume=True)
    shutil.rmtree(newer)
    weights = load_file(older / "model.safetensors")
    weights["head.classifier.weight"][0] = torch.inf
    save_file(weights, older / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"{older} cannot be loaded.*not finite.*Remove this folder"):
        train(config, resume=True)


def test_a_full_disk_names_a_text_file_and_leaves_it_as_it_was(tmp_path):
    file = tmp_path / "training_config.json"
    checkpoints.write_file(file, "before")
    with small_files(100), pytest.raises(OSError, match=r"training_config.json cannot be written \(File too large"):
        checkpoints.write_file(file, "after" * 100)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_text() == "before"


def test_a_full_disk_names_the_log(tmp_path):
    with (
        small_files(100),
        pytest.raises(OSError, match=r"log.jsonl cannot be written \(File too large"),
        RunLog(TrainingConfig(output=str(tmp_path)), make_accelerator()) as log,
    ):
        for step in range(10):
            log.write(step, {"loss": 1.0})


@dataclass
class Trial:
    """A run that something happens to, in processes of its own."""

    config: TrainingConfig
    start_command: Callable[..., subprocess.Popen]
    processes: int
    checkpoint_size: int  # bytes
    process: subprocess.Popen | None = None
    watched: Sequence[psutil.Process] = ()

    def start(self, step: int) -> None:
        """Start the run, and return when it has come to a step."""
        self.process = self.start_command(self.config, launcher=LAUNCHERS[self.processes])
        wait_for_step(Path(self.config.output), step, self.process)
        main = psutil.Process(self.process.pid)
        self.watched = [main, *main.children(recursive=True)]

    def find_rank(self, rank: int) -> psutil.Process:
        """Find one of the processes that train."""
        main = psutil.Process(self.process.pid)
        if self.processes == 1:
            return main
        return next(child for child in main.children() if child.environ().get("RANK") == str(rank))

    def wait_for_all(self) -> str:
        """Return the output of the run, once no process of it is left."""
        output, _ = self.process.communicate(timeout=SECONDS_TO_END)
        deadline = time.monotonic() + SECONDS_TO_END
        while left := list(filter(is_alive, self.watched)):
            assert time.monotonic() < deadline, f"Still there after {SECONDS_TO_END} s: {left}"
            time.sleep(0.05)
        return output


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# What happens to a run. Each starts it, does the harm and yields; continues, once the run has ended, to undo the harm;
# and may yield once more, to take something down after the run was resumed.


def strike(harm: Callable[[Trial], object]) -> Callable[[Trial], Iterator[None]]:
    def happen(trial: Trial) -> Iterator[None]:
        trial.start(STRIKE_STEP)
        harm(trial)
        yield

    return happen


def read_bad_image(trial: Trial) -> Iterator[None]:
    with bad_file(trial.config, "images"):
        trial.start(BAD_STEP - 1)
        yield


def fill_disk(trial: Trial) -> Iterator[None]:
    """Write to a disk in memory with room for one checkpoint and a half; mounting it needs a superuser."""
    disk = Path(trial.config.output).with_name("disk")
    disk.mkdir()
    room = f"size={3 * trial.checkpoint_size // 2}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", room, "tmpfs", disk]).returncode:
        pytest.skip("this user may not mount a disk")
    try:
        trial.config = trial.config.replace(output=str(disk / "run"), trackers="tensorboard")
        trial.start(2 * SAVE_STEPS - 1)
        yield
        subprocess.run(["mount", "-o", "remount,size=512m", disk], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def limit_files(trial: Trial) -> None:
    """Let no file of the first process be as large as a checkpoint's."""
    limit = trial.checkpoint_size // 10
    trial.find_rank(0).rlimit(psutil.RLIMIT_FSIZE, (limit, limit))


@dataclass(frozen=True)
class Fault:
    """What happens to a run, and what is expected: a pattern of its output, its exit code, the step to resume from."""

    happen: Callable[[Trial], Iterator[None]]
    said: str
    exit_code: int
    step: int | None = None  # if that is certain
    processes: int = 1


BAD_IMAGE = rf"Error: .*\.jpg cannot be read.* after step {BAD_STEP - 1}\..*--resume"
NOT_WRITTEN = r"Error: .*step-\d+ cannot be written \(.* The last checkpoint is .*--resume"
LOST_WORKER = r"Error: A process that reads images.*Killed.* The last checkpoint is .*--resume"
LOST_PROCESS = r"Error: Another process of this run has ended.* The last checkpoint is .*--resume"
TOLD = r"Told to stop after step \d+: a checkpoint is written, --resume"
FAULTS = {
    "bad image, two processes": Fault(read_bad_image, BAD_IMAGE, 1, SAVE_STEPS, 2),
    "full disk": Fault(fill_disk, NOT_WRITTEN, 1, SAVE_STEPS),
    "limit on files, first of two": Fault(strike(limit_files), NOT_WRITTEN, 1, None, 2),
    "SIGKILL of a worker": Fault(strike(lambda trial: find_workers(trial.find_rank(0))[0].kill()), LOST_WORKER, 1),
    "SIGKILL of the first of two": Fault(strike(lambda trial: trial.find_rank(0).kill()), LOST_PROCESS, 1, None, 2),
    "SIGKILL of the second of two": Fault(strike(lambda trial: trial.find_rank(1).kill()), LOST_PROCESS, 1, None, 2),
    "SIGTERM to all processes": Fault(
        strike(lambda trial: os.killpg(trial.process.pid, signal.SIGTERM)), TOLD, 128 + signal.SIGTERM
    ),
    "SIGTERM to the second of two": Fault(strike(lambda trial: trial.find_rank(1).terminate()), TOLD, 1, None, 2),
    "SIGTERM to the launcher": Fault(strike(lambda trial: trial.process.terminate()), TOLD, 1, None, 2),
}


@pytest.fixture(scope="module")
def whole_runs() -> dict[int, tuple[dict[str, torch.Tensor], int]]:
    """Final weights and checkpoint size of a run that nothing happened to, by its number of processes."""
    return {}


def finish(trial: Trial, *more: str) -> str:
    process = trial.start_command(trial.config, *more, launcher=LAUNCHERS[trial.processes])
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


@pytest.mark.reliability
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_and_the_run_resumes(faulty_training, start_command, tmp_path, whole_runs, fault):
    trial = Trial(faulty_training, start_command, fault.processes, 0)
    if fault.processes not in whole_runs:
        trial.config = faulty_training.replace(output=str(tmp_path / "whole"))
        finish(trial)
        newest = checkpoints.list_checkpoints(tmp_path / "whole" / "checkpoints")[-1]
        size = sum(file.stat().st_size for file in newest.iterdir())
        whole_runs[fault.processes] = load_file(tmp_path / "whole" / "last" / "model.safetensors"), size
    weights, trial.checkpoint_size = whole_runs[fault.processes]
    trial.config = faulty_training
    with contextlib.closing(fault.happen(trial)) as happening:
        next(happening)
        output = trial.wait_for_all()
        assert re.search(fault.said, output), output
        assert trial.process.returncode == fault.exit_code, output
        newest = checkpoints.list_checkpoints(Path(trial.config.output, "checkpoints"))[-1]
        step = checkpoints.checkpoint_step(newest)
        assert fault.step in (None, step)
        next(happening, None)
        assert f"Continuing after step {step}," in finish(trial, "--resume")
        assert_same_weights(load_file(Path(trial.config.output, "last", "model.safetensors")), weights)
