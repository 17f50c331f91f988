# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg ablate`: a table at the end, also of an ablation that was stopped and resumes."""

import signal

import pytest
from typer.testing import CliRunner

from cgrseg_hf.commands.main import app
from cgrseg_hf.training.stopping import StopSignals


class StoppedAtOnce(StopSignals):
    """A run that somebody ends as soon as it has begun."""

    def __enter__(self):
        super().__enter__()
        signal.raise_signal(signal.SIGTERM)
        return self


def test_a_signal_and_a_restart(small_data, tiny_model, tmp_path, monkeypatch):
    pytest.importorskip("torchvision")
    options = {"model": tiny_model, "data": small_data, "crop-size": 64, "batch-size": 2, "max-steps": 4}
    options |= {"num-workers": 0, "evaluation-limit": 1, "trackers": "none", "output": tmp_path, "variants": "baseline"}
    arguments = ["ablate", *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
    with monkeypatch.context() as patch:
        patch.setattr("cgrseg_hf.training.loop.StopSignals", StoppedAtOnce)
        stopped = CliRunner().invoke(app, arguments)
    assert stopped.exit_code == 128 + signal.SIGTERM, stopped.output
    assert [line.split()[-1] for line in stopped.output.splitlines() if line.startswith("baseline ")] == ["stopped"]
    assert (tmp_path / "ablation.csv").read_text().splitlines()[1].startswith("baseline,0,0,0,")
    done = CliRunner().invoke(app, [*arguments, "--resume"])
    assert done.exit_code == 0, done.output
    assert "Continuing after step" in done.output
    *_, baseline, place = done.stdout.splitlines()
    name, parameters, score = baseline.split()
    assert name == "baseline" and int(parameters.replace(",", "")) > 1000 and 0 <= float(score) <= 100
    assert place == f"The table is in {tmp_path}/ablation.csv."
