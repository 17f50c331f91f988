# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Full disks, lost processes, signals, bad files and bad numbers: what a training says of them, and how it goes on."""

import contextlib
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
LOOKED_AT = 32  # of them, before training starts
STEPS = 16
SAVE_STEPS = 5
STRIKE_STEP = 6  # after which signals are sent
BAD_STEP = 9  # of the bad pair, where there is one
SECONDS_TO_END = 60


@pytest.fixture(scope="session")
def many_pairs(small_data, tmp_path_factory) -> Path:
    """The small photos several times over, under other names."""
    folder = tmp_path_factory.mktemp("many")
    shutil.copy(small_data / "id2label.json", folder)
    photos = sorted((small_data / "train" / "images").iterdir())
    for kind in ("images", "annotations"):
        (folder / "train" / kind).mkdir(parents=True)
    for index in range(PAIRS):
        photo = photos[index % len(photos)]
        shutil.copy(photo, folder / "train" / "images" / f"{index:02d}.jpg")
        annotation = small_data / "train" / "annotations" / f"{photo.stem}.png"
        shutil.copy(annotation, folder / "train" / "annotations" / f"{index:02d}.png")
    return folder


@pytest.fixture
def faulty_training(tiny_training, many_pairs, tmp_path) -> TrainingConfig:
    """A run over a copy of the pairs, with dropout and a moving average."""
    data = shutil.copytree(many_pairs, tmp_path / "mydata")
    return tiny_training.replace(data=str(data), max_steps=STEPS, save_steps=SAVE_STEPS, num_workers=2, ema_decay=0.9)


def name_bad_pair(config: TrainingConfig, step: int) -> str:
    """A pair that training does not look at before it starts, and comes to at a step."""
    batches = iter(EndlessBatches(range(PAIRS), config.batch_size, config.seed))
    draws = [next(batches) for _ in range(step)][-1]
    return next(f"{draw.index:02d}" for draw in draws if draw.index >= LOOKED_AT)


def spoil_image(config: TrainingConfig, step: int = BAD_STEP) -> Callable[[], None]:
    """Cut the bad pair's image short; gives what mends it."""
    image = Path(config.data, "train", "images", f"{name_bad_pair(config, step)}.jpg")
    content = image.read_bytes()
    image.write_bytes(content[:200])
    return lambda: image.write_bytes(content)


def spoil_labels(config: TrainingConfig, step: int = BAD_STEP) -> Callable[[], None]:
    """Put an id that is no class into the bad pair's annotation; gives what mends it."""
    annotation = Path(config.data, "train", "annotations", f"{name_bad_pair(config, step)}.png")
    content = annotation.read_bytes()
    ids = np.array(Image.open(annotation))
    ids[3, 5] = 200
    Image.fromarray(ids).save(annotation)
    return lambda: annotation.write_bytes(content)


@contextlib.contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_bad_pair_is_named_and_no_step_is_lost(faulty_training):
    step = 2
    config = faulty_training.replace(max_steps=step, batch_size=2, num_workers=0)
    whole = train(config.replace(output=config.output + "-whole"))
    mend = spoil_labels(config, step)
    with pytest.raises(TrainingStoppedError, match=rf"{name_bad_pair(config, step)}\.png") as error:
        train(config)
    (checkpoint,) = checkpoints.list_checkpoints(Path(config.output, "checkpoints"))
    assert checkpoints.load_state(checkpoint)["step"] == step - 1
    assert f"after step {step - 1}. The last checkpoint is {checkpoint}. --resume" in str(error.value)
    mend()
    resumed = train(config, resume=True)
    assert_same_weights(*(load_file(result.model / "model.safetensors") for result in (whole, resumed)))


def test_a_full_disk_and_damaged_checkpoints_are_named(faulty_training):
    config = faulty_training.replace(max_steps=3, save_steps=1, batch_size=2, num_workers=0)
    with (
        small_files(100_000),
        pytest.raises(TrainingStoppedError, match=r"step-00000001 .*too large.*There is no"),
    ):
        train(config)
    assert not list(Path(config.output).rglob("unfinished-*"))
    train(config)
    older, newer = checkpoints.list_checkpoints(Path(config.output, "checkpoints"))
    os.truncate(newer / "training_state.pt", 1000)
    with pytest.raises(ValueError, match=rf"{newer} cannot be loaded.*Remove this folder"):
        train(config, resume=True)
    shutil.rmtree(newer)
    weights = load_file(older / "model.safetensors")
    weights["head.classifier.weight"][0] = torch.inf
    save_file(weights, older / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=rf"{older} holds weights that are not finite.*Remove this folder"):
        train(config, resume=True)


def test_a_full_disk_names_the_checkpoint_whose_state_it_does_not_take(tmp_path):
    state = {"step": 1, "moments": torch.ones(100_000)}
    with small_files(100_000), pytest.raises(OSError, match=r"step-00000001 .*too large"):
        checkpoints.save_checkpoint(tmp_path, 1, lambda folder: None, state)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_a_text_file_as_it_was(tmp_path):
    file = tmp_path / "training_config.json"
    checkpoints.write_file(file, "before")
    with small_files(100), pytest.raises(OSError, match=r"training_config.json cannot be written \(File too large"):
        checkpoints.write_file(file, "after" * 100)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert file.read_text() == "before"


def test_a_full_disk_names_the_log(tmp_path):
    log = RunLog(tmp_path / "log.jsonl", make_accelerator())
    with small_files(100), pytest.raises(OSError, match=r"log.jsonl cannot be written \(File too large"):
        for step in range(10):
            log.write(step, {"loss": 1.0})
    log.close()


@dataclass
class Trial:
    """
    A run that something happens to.

    Args:
        config (`TrainingConfig`): Of the run.
        start_command (`Callable`): Starts it.
        launcher (`tuple[str, ...]`): What Python is called with.
        folder (`Path`): Of the trial's own.
        checkpoint_size (`int`): Bytes of one of the run's checkpoints.
    """

    config: TrainingConfig
    start_command: Callable[..., subprocess.Popen]
    launcher: tuple[str, ...]
    folder: Path
    checkpoint_size: int
    process: subprocess.Popen | None = None

    @property
    def checkpoints(self) -> list[Path]:
        return checkpoints.list_checkpoints(Path(self.config.output, "checkpoints"))

    def start(self, step: int) -> None:
        """Start the run, and return when it has come to a step."""
        self.process = self.start_command(self.config, launcher=self.launcher)
        wait_for_step(Path(self.config.output), step, self.process)

    def find_rank(self, rank: int) -> psutil.Process:
        """One of the processes that a launcher has started."""
        children = psutil.Process(self.process.pid).children()
        return next(child for child in children if child.environ().get("RANK") == str(rank))

    def wait_for_all(self) -> tuple[str, int, float]:
        """What the run said, its exit code, and after how many seconds no process of it was left."""
        begin = time.monotonic()
        watched: set[psutil.Process] = set()
        while time.monotonic() - begin < SECONDS_TO_END:
            with contextlib.suppress(psutil.NoSuchProcess):
                main = psutil.Process(self.process.pid)
                watched.update([main, *main.children(recursive=True)])
            if self.process.poll() is not None and not any(is_alive(one) for one in watched):
                break
            time.sleep(0.05)
        left = [one for one in watched if is_alive(one)]
        assert not left, f"Still there after {SECONDS_TO_END} s: {left}"
        seconds = time.monotonic() - begin
        output, _ = self.process.communicate(timeout=5)
        return output, self.process.returncode, seconds

    def check_checkpoints(self) -> int:
        """Load all checkpoints, and give the step of the newest one."""
        for checkpoint in self.checkpoints:
            step = checkpoints.load_state(checkpoint)["step"]
            weights = load_file(checkpoint / "model.safetensors")
            assert all(tensor.isfinite().all() for tensor in weights.values())
        assert self.checkpoints, "There is no checkpoint."
        return step

    def find_message(self, output: str, pattern: str) -> str:
        """What a line says of it from where the pattern begins, without what differs from run to run."""
        lines = (re.search(f"({pattern}).*", line) for line in re.split(r"[\r\n]+", output))
        found = next((line for line in lines if line), None)
        assert found is not None, f"Nothing says {pattern!r}:\n{output}"
        line = re.sub(r"\x1b\[[\d;]*m", "", found[0])
        for path, name in ((self.config.output, "runs/mine"), (self.config.data, "mydata"), (str(self.folder), "…")):
            line = line.replace(path, name)
        return re.sub(r"pid [\d, ]+", "pid …", line).strip()


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes in the memory; needs a superuser."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def may_mount(folder: Path) -> bool:
    """Whether this user may make disks."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError), small_disk(folder, 2**20):
        return True
    return False


# What happens to a run. Each starts it, does the harm and yields; goes on, when the run has ended, to mend what it did;
# and yields once more if something is to be taken down after the run has gone on.


def kill_main(trial: Trial) -> Iterator[None]:
    trial.start(STRIKE_STEP)
    trial.process.kill()
    yield


def kill_worker(trial: Trial) -> Iterator[None]:
    trial.start(STRIKE_STEP)
    find_workers(psutil.Process(trial.process.pid))[0].kill()
    yield


def terminate(trial: Trial) -> Iterator[None]:
    trial.start(STRIKE_STEP)
    trial.process.terminate()
    yield


def terminate_all(trial: Trial) -> Iterator[None]:
    trial.start(STRIKE_STEP)
    os.killpg(trial.process.pid, signal.SIGTERM)
    yield


def kill_first(trial: Trial) -> Iterator[None]:
    trial.start(STRIKE_STEP)
    trial.find_rank(0).kill()
    yield


def kill_second(trial: Trial) -> Iterator[None]:
    trial.start(STRIKE_STEP)
    trial.find_rank(1).kill()
    yield


def terminate_second(trial: Trial) -> Iterator[None]:
    trial.start(STRIKE_STEP)
    trial.find_rank(1).terminate()
    yield


def read_bad_image(trial: Trial) -> Iterator[None]:
    mend = spoil_image(trial.config)
    trial.start(BAD_STEP - 1)
    yield
    mend()


def read_bad_labels(trial: Trial) -> Iterator[None]:
    mend = spoil_labels(trial.config)
    trial.start(BAD_STEP - 1)
    yield
    mend()


def fill_disk(trial: Trial) -> Iterator[None]:
    """The disk has room for one checkpoint and a half."""
    disk = trial.folder / "disk"
    with small_disk(disk, 3 * trial.checkpoint_size // 2):
        trial.config = trial.config.replace(output=str(disk / "run"), trackers="tensorboard")
        trial.start(2 * SAVE_STEPS - 1)
        yield
        subprocess.run(["mount", "-o", "remount,size=512m", str(disk)], check=True)
        yield


def limit_files(trial: Trial) -> Iterator[None]:
    """No file of the first process may be as large as a checkpoint's."""
    trial.start(STRIKE_STEP)
    main = psutil.Process(trial.process.pid) if trial.launcher == ONE_PROCESS else trial.find_rank(0)
    main.rlimit(psutil.RLIMIT_FSIZE, (trial.checkpoint_size // 10, trial.checkpoint_size // 10))
    yield


@dataclass(frozen=True)
class Fault:
    """
    One of them.

    Args:
        name (`str`): What it is.
        happen (`Callable`): Does it.
        said (`str`, *optional*): A pattern that a line of the run's output has to match.
        exit_code (`int`): Of the process that the user has started.
        step (`int`, *optional*): Of the checkpoint to go on from, where that is certain.
        processes (`int`): How many processes train.
    """

    name: str
    happen: Callable[[Trial], Iterator[None]]
    said: str | None
    exit_code: int
    step: int | None = None
    processes: int = 1


_BAD_IMAGE = rf"Error: .*\.jpg cannot be read.* after step {BAD_STEP - 1}\..*--resume"
_BAD_LABELS = rf"Error: .*\.png .*200.* after step {BAD_STEP - 1}\..*--resume"
_NO_SPACE = r"Error: .*step-\d+ cannot be written \(.*No space.* The last checkpoint is .*--resume"
_TOO_LARGE = r"Error: .*step-\d+ cannot be written \(.*File too large.* The last checkpoint is .*--resume"
_LOST_WORKER = r"Error: A process that reads images.*Killed.* The last checkpoint is .*--resume"
_LOST_PROCESS = r"Error: Another process of this run has ended.* The last checkpoint is .*--resume"
_TOLD = r"Told to stop after step \d+: a checkpoint is written, --resume"
FAULTS = (
    Fault("an image that cannot be read", read_bad_image, _BAD_IMAGE, 1, BAD_STEP - 1),
    Fault("the same, two processes training", read_bad_image, _BAD_IMAGE, 1, SAVE_STEPS, 2),
    Fault("a label that is no class", read_bad_labels, _BAD_LABELS, 1, BAD_STEP - 1),
    Fault("a disk that is full while a checkpoint is written", fill_disk, _NO_SPACE, 1, SAVE_STEPS),
    Fault("a limit on the size of files", limit_files, _TOO_LARGE, 1, None),
    Fault("the same for the first of two processes", limit_files, _TOO_LARGE, 1, None, 2),
    Fault("SIGKILL of a worker that reads images", kill_worker, _LOST_WORKER, 1),
    Fault("SIGKILL of the main process, but not of its workers", kill_main, None, -signal.SIGKILL),
    Fault("SIGKILL of the first of two processes", kill_first, _LOST_PROCESS, 1, None, 2),
    Fault("SIGKILL of the second of two processes", kill_second, _LOST_PROCESS, 1, None, 2),
    Fault("SIGTERM", terminate, _TOLD, 128 + signal.SIGTERM),
    Fault("SIGTERM to the main process and to its workers", terminate_all, _TOLD, 128 + signal.SIGTERM),
    Fault("SIGTERM to the second of two processes", terminate_second, _TOLD, 1, None, 2),
    Fault("SIGTERM to the launcher of two processes", terminate, _TOLD, 1, None, 2),
)


def run(config: TrainingConfig, start_command: Callable, launcher: tuple[str, ...], resume: bool = False) -> str:
    """Train to the end, and give what the run said; that of one process in this one, which has started already."""
    if launcher == ONE_PROCESS:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert train(config, resume=resume).finished
        return said.getvalue()
    process = start_command(config, *(["--resume"] if resume else []), launcher=launcher)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def try_fault(fault: Fault, trial: Trial, whole: dict[str, torch.Tensor]) -> tuple[Any, ...]:
    """A row of the page: what the run said and left, and that it ended, when resumed, as if nothing had happened."""
    with contextlib.closing(fault.happen(trial)) as happening:
        next(happening)
        output, exit_code, seconds = trial.wait_for_all()
        message = "–" if fault.said is None else trial.find_message(output, fault.said)
        assert exit_code == fault.exit_code, f"Exit code {exit_code}:\n{output}"
        step = trial.check_checkpoints()
        assert fault.step in (None, step), f"The newest checkpoint is of step {step}."
        next(happening, None)
        said = run(trial.config, trial.start_command, trial.launcher, resume=True)
        assert f"Going on after step {step}," in said
        assert_same_weights(load_file(Path(trial.config.output, "last", "model.safetensors")), whole)
    return fault.name, message, exit_code, f"{seconds:.1f}", step, "the same"


def diverge(trial: Trial) -> tuple[Any, ...]:
    """A row for a loss that is not finite: the advice that the message gives is followed."""
    config = trial.config
    trial.config = config.replace(learning_rate=1e20, warmup_steps=20, warmup_factor=1e-22, save_steps=1)
    trial.start(1)  # this one still has a small learning rate
    output, exit_code, seconds = trial.wait_for_all()
    message = trial.find_message(output, r"Error: The (loss of|weights after) step \d+ .*--model .*--output")
    assert exit_code == 1, output
    trial.check_checkpoints()
    good = Path(re.search(r"--model (\S+),", output)[1])  # the newest may hold weights that are finite and beyond use
    step = int(good.name.removeprefix("step-"))
    config = config.replace(model=str(good), max_steps=SAVE_STEPS, output=str(trial.folder / "other"))
    run(config, trial.start_command, trial.launcher)
    weights = load_file(trial.folder / "other" / "last" / "model.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    return "a learning rate of 10²⁰", message, exit_code, f"{seconds:.1f}", step, "of another run"


@pytest.mark.reliability
def test_every_fault_is_named_and_the_run_goes_on(faulty_training, start_command, many_pairs, tmp_path):
    launchers = {1: ONE_PROCESS, 2: TWO_PROCESSES}
    whole, failures = {}, 0
    for processes in {fault.processes for fault in FAULTS}:
        config = faulty_training.replace(output=str(tmp_path / f"whole-{processes}"))
        run(config, start_command, launchers[processes])
        whole[processes] = load_file(Path(config.output, "last", "model.safetensors"))
    newest = checkpoints.list_checkpoints(Path(config.output, "checkpoints"))[-1]
    checkpoint_size = sum(file.stat().st_size for file in newest.iterdir())

    can_mount = may_mount(tmp_path / "mount")
    for number, fault in enumerate([*FAULTS, None]):
        if fault is not None and fault.happen is fill_disk and not can_mount:
            continue
        folder = tmp_path / str(number)
        config = faulty_training.replace(
            data=str(shutil.copytree(many_pairs, folder / "mydata")), output=str(folder / "run")
        )
        trial = Trial(config, start_command, launchers[fault.processes if fault else 1], folder, checkpoint_size)
        try:
            row = try_fault(fault, trial, whole[fault.processes]) if fault else diverge(trial)
        except (AssertionError, ValueError) as error:
            failures += 1
            row = (fault.name if fault else "a learning rate of 10²⁰", f"Failed: {error}")
        print(*row, sep=" | ", flush=True)
    assert failures == 0
