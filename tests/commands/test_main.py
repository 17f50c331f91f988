# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The command as a process of its own."""

import dataclasses
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cgrseg_hf import __version__
from cgrseg_hf.commands.main import main
from cgrseg_hf.training import TrainingConfig, recipe_names


def run(*arguments: str, columns: int = 200) -> subprocess.CompletedProcess:
    environment = {**os.environ, "COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-m", "cgrseg_hf", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_version_and_help():
    assert run("--version").stdout.strip() == __version__
    shown = run("--help", columns=80)
    assert shown.returncode == 0
    assert "..." not in shown.stdout.partition("Commands:")[2]
    commands = "predict train evaluate check-data ablate benchmark export convert card push info demo"
    for command in commands.split():
        assert command in shown.stdout


def test_help_and_mistakes_load_nothing_heavy(photos):
    photo = str(photos / "000000015517.jpg")
    mistakes = {
        "predict no/such/photo.jpg": "no/such/photo.jpg cannot be read",
        f"predict {photo} --model ./none": "no folder './none'",
        f"predict {photo} --model {photos}": "no config.json",
        f"predict {photo} --device cuda:x": "'cuda:x'",
        f"predict {photo} --engine openvin": "'--engine': 'openvin' is not one of",
        f"predict {photo} --engine openvinoo": "Did you mean openvino?",
        f"predict {photo} -o {photo}": "is a file: name a folder",
        "evaluate ./none --data .": "no folder './none'",
        "evaluate --data . --label-ids raw": "name it by dataset (--dataset)",
        "evaluate --data . --stride 5": "windows come with --slide",
        "evaluate --data nowhere/at/all": "nowhere/at/all does not exist",
        "evaluate --data . --class-names none.txt": "no file of class names none.txt",
        "benchmark xz": "no folder 'xz'",
        "benchmark --engines onnx": "no engine 'onnx'",
        "export ./none": "no folder './none'",
        f"export -o {photos}": "not an earlier export",
        "export --precision bf16": "no bfloat16 convolutions",
        "convert ./none": "no folder './none'",
        "check-data nowhere/at/all": "nowhere/at/all does not exist",
        "train --data . --model xss": "no folder 'xss'",
        "train --data . --dataset ade2k": "Did you mean ade20k?",
        "demo --model ./none": "no folder './none'",
    }
    code = (
        "import shlex, sys\n"
        "from cgrseg_hf.commands.main import main\n"
        f"for line in {['train --help', *mistakes]!r}:\n"
        "    sys.argv[1:] = shlex.split(line)\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "    print('ended', file=sys.stderr)\n"
        "print('heavy:', sorted({'torch', 'transformers', 'datasets', 'torchvision', 'accelerate'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "heavy: []" in shown.stdout, shown.stdout + shown.stderr
    for said, (line, message) in zip(shown.stderr.split("ended\n")[1:], mistakes.items()):
        assert message in said, (line, said)


@pytest.mark.parametrize("command", ["train", "ablate"])
def test_every_value_of_a_recipe_has_an_option(command):
    shown = run(command, "--help", columns=80).stdout
    missing = [
        field.name for field in dataclasses.fields(TrainingConfig) if f"--{field.name.replace('_', '-')}" not in shown
    ]
    assert not missing
    assert all(name in shown for name in recipe_names())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "--recipe", "cgrseg-t-ade2k"), 1, "Did you mean cgrseg-t-ade20k?"),
        (("train", "--learning-rat", "1"), 2, "--learning-rate"),
        (("train", "--batch-size", "many"), 2, "--batch-size"),
        (("train", "--model-settings", "dropout"), 2, "name=value"),
        (("train", "--crop-size", "0x64"), 1, "crop_size is (0, 64)"),
        (("train", "--crop-size", "0"), 1, "crop_size is (0, 0)"),
        (("train", "--scale-range", "0.5,1,2"), 2, "neither one number nor two"),
        (("train",), 1, "--data"),
        (("evaluate", "./no/such/model", "--data", "nowhere"), 1, "no/such/model"),
        (("check-data", "nowhere/at/all"), 2, "nowhere/at/all"),
    ],
)
def test_what_a_user_got_wrong_is_said_in_a_line(arguments, code, message):
    ended = run(*arguments)
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def fail_with(error: BaseException) -> Callable[[str], None]:
    def fail(step: str) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("arguments", "happens", "code", "expected"),
    [
        ([], fail_with(RuntimeError("who knows")), 1, ["Traceback", "raise error", "RuntimeError: who knows"]),
        (["--debug"], fail_with(ValueError("a mistake")), 1, ["Traceback", "raise error", "ValueError: a mistake"]),
        ([], fail_with(pickle.UnpicklingError("os.system")), 1, ["Error: the model's weights hold more than tensors"]),
        ([], lambda step: pickle.loads(b""), 1, ["Traceback", "pickle.loads", "EOFError: Ran out of input"]),
        ([], fail_with(KeyboardInterrupt()), 130, []),
    ],
)
def test_how_a_command_ends(arguments, happens, code, expected, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["cgrseg", "info", *arguments])
    monkeypatch.setattr("cgrseg_hf.commands.info.announce", happens)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    said = capsys.readouterr().err.strip()
    assert said.startswith(expected[0]) if expected else not said
    assert all(part in said for part in expected) and "Abort" not in said


def test_the_demo_says_what_is_wrong_with_a_photo(tmp_path):
    script = Path(__file__).parents[2] / "scripts" / "demo.py"
    (tmp_path / "words.jpg").write_text("no picture")
    command = [sys.executable, str(script), str(tmp_path / "words.jpg"), "--output", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert "cannot be read" in ended.stderr and "Traceback" not in ended.stderr
