# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg train`: what its options become, and the command that it ends with."""

import shlex
from pathlib import Path

import typer
from typer.testing import CliRunner

from cgrseg_hf.commands.configuration import takes_configuration
from cgrseg_hf.commands.main import app
from cgrseg_hf.commands.train import _evaluation_command
from cgrseg_hf.training.config import TrainingConfig


def test_settings_of_the_model_are_numbers_truths_and_words(tmp_path):
    received: list[TrainingConfig] = []
    command = typer.Typer()
    command.command()(takes_configuration(received.append))
    settings = {"num_pyramid_blocks": "2", "use_rcm_in_pyramid_context": "false", "hidden_act": "gelu", "name": "a b"}
    options = [part for name, text in settings.items() for part in ("--model-settings", f"{name}={text}")]
    done = CliRunner().invoke(command, ["--data", str(tmp_path), *options])
    assert done.exit_code == 0, done.output
    (config,) = received
    assert config.model_settings == {
        "num_pyramid_blocks": 2,
        "use_rcm_in_pyramid_context": False,
        "hidden_act": "gelu",
        "name": "a b",
    }


def test_the_evaluation_is_of_the_data_that_was_trained_on(tmp_path, monkeypatch):
    config = TrainingConfig(
        data="my data", streaming=True, reduce_labels=False, validation_split=None, class_names="names.txt"
    )
    command = _evaluation_command(config, Path("runs/mine/best"))
    assert command == (
        "cgrseg evaluate runs/mine/best --data 'my data' --split train --class-names names.txt --no-reduce-labels "
        "--streaming"
    )
    monkeypatch.chdir(tmp_path)
    Path("runs/mine/best").mkdir(parents=True)
    Path("runs/mine/best/config.json").write_text("{}")
    shown = CliRunner().invoke(app, shlex.split(command)[1:])
    assert "my data does not exist" in str(shown.exception)
