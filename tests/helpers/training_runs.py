# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A small set of real photos, a tiny model, and runs of the command in processes of their own."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from cgrseg_hf.training import TrainingConfig

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"

# What Python is called with for one process, and for two on CPUs.
ONE_PROCESS = ("-m", "cgrseg_hf", "train")
TWO_PROCESSES = (
    *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
    str(Path(__file__).parents[2] / "scripts" / "train.py"),
)
TO_VALIDATE = 5


@pytest.fixture(scope="session")
def small_data(tmp_path_factory) -> Path:
    """The fixture's photos at a quarter of their size: 7 to train on, 5 to validate."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "id2label.json").write_text((PHOTOS / "id2label.json").read_text())
    rows = [json.loads(line) for line in (PHOTOS / "metadata.jsonl").read_text().splitlines()]
    for index, row in enumerate(rows):
        split = "validation" if index < TO_VALIDATE else "train"
        for kind, file in (("images", row["file_name"]), ("annotations", row["annotation_file_name"])):
            picture = Image.open(PHOTOS / file)
            picture = picture.resize((picture.width // 4, picture.height // 4), Image.Resampling.NEAREST)
            target = folder / split / kind / Path(file).name
            target.parent.mkdir(parents=True, exist_ok=True)
            picture.save(target)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_config, tmp_path_factory) -> Path:
    """A folder with the configuration of a tiny model, and no weights."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_config(num_labels=171).save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_training(small_data, tiny_model, tmp_path) -> TrainingConfig:
    """Some steps of a tiny model on small crops."""
    return TrainingConfig(
        model=str(tiny_model),
        data=str(small_data),
        crop_size=(64, 64),
        resize_to=(160, 80),
        max_steps=8,
        batch_size=4,
        learning_rate=1e-3,
        warmup_steps=2,
        num_workers=0,
        logging_steps=1,
        validation_split=None,
        trackers="none",
        output=str(tmp_path / "run"),
    )


@pytest.fixture
def start_command() -> Callable[..., subprocess.Popen]:
    """Start `cgrseg train` with a configuration's values, as a user would; the process ends with the test."""
    started: list[subprocess.Popen] = []

    def start(config: TrainingConfig, *more: str, launcher: tuple[str, ...] = ONE_PROCESS):
        options = []
        for name, value in config.to_dict().items():
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                options.append(flag if value else "--no-" + flag[2:])
            elif isinstance(value, list):
                options += [flag, ",".join(map(str, value))]
            elif isinstance(value, dict):
                options += [part for key, entry in value.items() for part in (flag, f"{key}={entry}")]
            elif value is not None:
                options += [flag, str(value)]
            elif name == "validation_split":
                options += [flag, "none"]
        process = subprocess.Popen(
            [sys.executable, *launcher, *options, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.wait()


def wait_for_line(process: subprocess.Popen, pattern: str) -> str:
    """Read the process's output until it says something."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return line
    raise AssertionError("".join(lines))


def wait_for_step(folder: Path, step: int, process: subprocess.Popen) -> None:
    """Return when the run's log has come to a step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        log = folder / "log.jsonl"
        if log.exists() and f'"step": {step},' in log.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(process.stdout.read())


def find_workers(process: psutil.Process) -> list[psutil.Process]:
    """The processes that read images for a process: copies of it."""
    return [child for child in process.children() if child.cmdline() == process.cmdline()]


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different
