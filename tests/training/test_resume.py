# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Runs that are stopped or killed and resume, some of them in processes of their own."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from helpers.training_runs import assert_same_weights, wait_for_line, wait_for_step
from safetensors.torch import load_file
from transformers import SegformerConfig

from cgrseg_hf.commands.main import main
from cgrseg_hf.training import checkpoints, train
from cgrseg_hf.training.run import TrainingRun
from cgrseg_hf.training.stopping import StopSignals


def kill_and_resume(config, start_command, moments: list[tuple[int, float]]) -> dict[str, torch.Tensor]:
    """Kill the run with SIGKILL so many seconds after each step, resume it, and return the final weights."""
    folder = Path(config.output)
    for step, delay in moments:
        process = start_command(config, "--resume")
        wait_for_step(folder, step, process)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    output, _ = (process := start_command(config, "--resume")).communicate(timeout=240)
    assert process.returncode == 0, output
    assert "Continuing after step" in output
    return load_file(folder / "last" / "model.safetensors")


@pytest.fixture
def two_passes(tiny_training):
    """7 photos in batches of 2: checkpoints fall in the middle of a pass. Dropout and a moving average are on."""
    return tiny_training.replace(max_steps=14, batch_size=2, save_steps=3, num_workers=2, ema_decay=0.9)


@pytest.mark.parametrize(
    ("num_workers", "steps"),
    [(2, [5]), *(pytest.param(count, [1, 4, 6, 9, 12], marks=pytest.mark.long) for count in (0, 2))],
)
def test_a_killed_run_ends_with_the_same_weights(two_passes, start_command, num_workers, steps):
    config = two_passes.replace(num_workers=num_workers)
    whole = train(config.replace(output=config.output + "-whole", num_workers=0))
    weights = kill_and_resume(config, start_command, [(step, random.uniform(0, 0.5)) for step in steps])
    assert_same_weights(weights, load_file(whole.model / "model.safetensors"))


def test_resuming_in_mixed_precision_and_with_a_stream(tiny_training):
    config = tiny_training.replace(precision="bf16", streaming=True, shuffle_buffer=5, save_steps=3, ema_decay=0.9)
    whole = train(config)
    newest = checkpoints.checkpoint_path(whole.output / "checkpoints", 8)
    shutil.rmtree(newest)  # as if it had been killed before the last checkpoint
    with (whole.output / "log.jsonl").open("a") as log:
        log.write('{"step": 9, "lo')  # and while it wrote a line
    again = train(config, resume=True)
    assert again.step == 8
    steps = [json.loads(line)["step"] for line in (again.output / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))
    fresh = train(config.replace(output=config.output + "-fresh"))
    assert_same_weights(load_file(again.model / "model.safetensors"), load_file(fresh.model / "model.safetensors"))


def test_the_command_resumes_with_the_values_of_the_run(small_data, tiny_training, tmp_path, monkeypatch, capsys):
    def run_command(output: str, command: tuple[str, ...] = ("cgrseg", "train", "--resume")) -> str:
        monkeypatch.setattr(sys, "argv", [*command, "--output", output])
        with pytest.raises(SystemExit):
            main()
        return "".join(capsys.readouterr())

    # What the command that evaluates the model has to say too.
    data, names = tmp_path / "my data", tmp_path / "its names.json"
    data.symlink_to(small_data)
    names.write_text((small_data / "id2label.json").read_text())
    about_data = {"data": str(data), "class_names": str(names), "validation_split": "val", "reduce_labels": False}
    result = train(tiny_training.replace(max_steps=2, **about_data))
    printed = run_command(str(result.output))
    assert "Continuing after step 2" in printed
    assert f"(mean IoU {100 * result.best_mean_iou:.2f}%)" in printed
    command = shlex.split(printed.rpartition("Next: ")[2].splitlines()[0])
    assert {str(data), str(names), "val", "--no-reduce-labels"} < set(command)
    evaluated = run_command(str(tmp_path / "report"), (*command, "--limit", "1", "--worst", "0", "--num-workers", "0"))
    assert "1 images in" in evaluated
    printed = run_command(str(tmp_path / "nothing"))
    assert "training starts anew" in printed and "--data" in printed


def test_resuming_with_other_values_is_refused(tiny_training):
    train(tiny_training.replace(save_steps=2))
    changed = tiny_training.replace(learning_rate=5e-2, batch_size=2, num_workers=1, save_steps=4)
    with pytest.raises(ValueError, match=r"batch_size \(4, now 2\), learning_rate \(0.001, now 0.05\)"):
        train(changed, resume=True)


def test_an_evaluation_that_was_cut_short_is_made_up_for(tiny_training, monkeypatch):
    config = tiny_training.replace(validation_split="validation", evaluation_steps=4)

    def end(run, data):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingRun, "evaluate", end)
        train(config)
    (checkpoint,) = checkpoints.list_checkpoints(Path(config.output) / "checkpoints")
    assert checkpoint.name == "step-00000004"
    result = train(config, resume=True)
    scores = [line for line in (result.output / "log.jsonl").read_text().splitlines() if "mean_iou" in line]
    assert [int(re.search(r'"step": (\d+)', line)[1]) for line in scores] == [4, 8]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.long)]
)
def test_a_signal_saves_and_leaves(two_passes, start_command, number, code):
    process = start_command(two_passes.replace(max_steps=2000, save_steps=2000))
    folder = Path(two_passes.output)
    wait_for_step(folder, 3, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert "--resume" in output
    (checkpoint,) = checkpoints.list_checkpoints(folder / "checkpoints")
    assert checkpoints.checkpoint_step(checkpoint) >= 3


def test_a_second_interrupt_from_the_keyboard_ends_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), StopSignals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.caught == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_kill_while_writing_left_is_cleared_away(tmp_path):
    def write(folder):
        (folder / "weights").write_text("whole")

    best = tmp_path / "best"
    (tmp_path / "unfinished-step-00000001").mkdir()
    checkpoints.write_folder(best, write, Accelerator(cpu=True))
    assert list(tmp_path.iterdir()) == [best]
    best.rename(tmp_path / "replaced-best")  # between two renames
    checkpoints.recover_folder(best)
    assert (best / "weights").read_text() == "whole"


@pytest.mark.long
def test_a_kill_while_saving_leaves_a_checkpoint_that_loads(tmp_path):
    # A process that does nothing but save: wherever it is killed, it was saving.
    saving = """
import sys, torch
from pathlib import Path
from accelerate import Accelerator
from cgrseg_hf.training.checkpoints import save_checkpoint
accelerator = Accelerator(cpu=True)
model = accelerator.prepare(torch.nn.Linear(500, 500))
for step in range(1, 10**6):
    torch.nn.init.constant_(model.weight, step)
    save_checkpoint(Path(sys.argv[1]), step, accelerator, keep=2)
    print(step, flush=True)
"""
    accelerator = Accelerator(cpu=True)
    model = accelerator.prepare(torch.nn.Linear(500, 500))
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", saving, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        wait_for_line(process, "^3$")
        time.sleep(random.uniform(0, 0.1))
        process.kill()
        process.wait()
        found = checkpoints.list_checkpoints(tmp_path)
        assert 1 <= len(found) <= 3
        for checkpoint in found:
            checkpoints.load_checkpoint(checkpoint, accelerator)
            assert model.weight.eq(checkpoints.checkpoint_step(checkpoint)).all()


def test_another_model_is_evaluated_and_resumes(tiny_training, tmp_path):
    """Also one whose weights transformers writes under other names than they have in memory."""
    SegformerConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8).save_pretrained(
        tmp_path / "segformer"
    )
    config = tiny_training.replace(
        model=str(tmp_path / "segformer"), max_steps=4, save_steps=2, validation_split="validation"
    )
    assert train(config).best_mean_iou is not None
    last = tmp_path / "run" / "last"
    expected = load_file(last / "model.safetensors")
    shutil.rmtree(last)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-00000004")
    train(config, resume=True)
    assert_same_weights(load_file(last / "model.safetensors"), expected)


class Bomb:
    """Unpickles to a call."""

    def __reduce__(self):
        return print, ("it was run",)


@pytest.mark.parametrize("name", ["optimizer.bin", "scheduler.bin", "training_state.pt", "random_states_0.pkl"])
def test_no_pickled_code_is_run(tiny_training, name, capsys):
    config = tiny_training.replace(max_steps=1)
    (checkpoint,) = (train(config).output / "checkpoints").iterdir()
    torch.save({"step": Bomb()}, checkpoint / name)
    with pytest.raises(ValueError, match=rf"{checkpoint} cannot be loaded .*tensors and plain values"):
        train(config, resume=True)
    assert "it was run" not in capsys.readouterr().out


def test_a_checkpoint_of_an_earlier_version_is_refused(tiny_training):
    config = tiny_training.replace(max_steps=1)
    (checkpoint,) = (train(config).output / "checkpoints").iterdir()
    (checkpoint / "optimizer.bin").unlink()
    with pytest.raises(ValueError, match=rf"--model {checkpoint}"):
        train(config, resume=True)
