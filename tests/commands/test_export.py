# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`cgrseg export`: a folder that runs, and mistakes in a line."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cgrseg_hf.commands.main import app, main
from cgrseg_hf.engines.export_settings import ExportSettings, read_settings
from cgrseg_hf.export.parity import make_picture
from cgrseg_hf.inference import Segmenter


@pytest.fixture
def export(decided_folder, tmp_path, monkeypatch):
    """Run the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        return CliRunner().invoke(app, ["export", str(decided_folder), *arguments])

    return run


@pytest.fixture
def error_of(tmp_path, monkeypatch, capsys):
    """Run the command as the shell does, to its exit code and what it says of an error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["cgrseg", "export", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    return run


def test_a_folder_that_runs(export, exported):
    # An earlier export, of which nothing is to be left.
    shutil.copytree(exported("openvino").folder, "made")
    Path("made/stale.txt").write_text("of another day")
    done = export("-o", "made", "--format", "openvino", "--precision", "fp32", "--size", "64x96", "--overwrite")
    assert done.exit_code == 0, done.output
    assert read_settings("made") == ExportSettings("openvino", size=(64, 96))
    lines = done.stdout.strip().splitlines()
    assert lines[0] == "Compared with the model in PyTorch, float32:"
    compared = [line for line in lines if "equal labels" in line]
    assert len(compared) == len(json.loads(Path("made/export.json").read_text())["parity"]["comparisons"]) == 5
    assert all("64×96" in line and "100.000%" in line and "largest logit difference" in line for line in compared)
    assert lines[-2] == "model.xml takes pixel_values and gives logits. It is in made"
    assert lines[-1] == "Next: cgrseg predict PHOTO --model made"
    assert not Path("made/stale.txt").exists()
    assert [path.name for path in Path.cwd().iterdir()] == ["made"]
    photo = Image.fromarray(make_picture((90, 70)))
    assert Segmenter.from_pretrained("made", num_threads=1)(photo).label_map.shape == (90, 70)


@pytest.mark.long
def test_what_comes_next_works(export, exported, photos):
    done = export("-o", "made", "--format", "openvino", "--calibration", str(photos), "--max-calibration", "2")
    assert done.exit_code == 0, done.output
    assert "calibration photo 2" in done.stdout and "000000010014" not in done.stdout
    photo = photos / "000000010014.jpg"
    predicted = CliRunner().invoke(app, ["predict", str(photo), "--model", "made", "-o", "out"])
    assert predicted.exit_code == 0, predicted.output
    assert Path("out/000000010014_classes.png").is_file()


@pytest.mark.long
def test_pictures_to_label_maps(export):
    pytest.importorskip("openvino")
    done = export("--format", "openvino", "--precision", "fp16", "--include-preprocessing", "--include-argmax")
    assert done.exit_code == 0, done.output
    folder = Path("runs/export/openvino-fp16")
    assert read_settings(folder) == ExportSettings("openvino", "float16", True, True)
    assert "largest logit difference" not in done.stdout
    lines = done.stdout.strip().splitlines()
    assert lines[-2] == f"model.xml takes image and gives labels. It is in {folder}"
    assert lines[-1] == f"What it takes and gives in detail: {folder / 'export.json'}"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--precision", "bf16"), 1, "Error: ONNX Runtime has no bfloat16 convolutions on CPUs."),
        (("--precision", "int8"), 1, "Error: precision='int8' needs calibration"),
        (("--calibration", "no/such/folder"), 1, "Error: calibration='no/such/folder' is not a folder of photos."),
        (("--opset", "17"), 1, "Error: opset=17 is too old"),
        (("--format", "tflite"), 2, "'tflite'"),
        (("--precision", "int4"), 2, "'int4'"),
        (("--max-calibration", "0"), 2, "--max-calibration"),
        (("--size", "wide"), 2, "'wide' is not made of whole numbers"),
        (("--format", "torch", "--opset", "18"), 2, "--opset: its operators are those of ONNX"),
        (("--max-calibration", "5"), 2, "name them with --calibration"),
        (("--size", "1,2,3"), 2, "'1,2,3' is neither one number nor two"),
    ],
)
def test_mistakes_in_a_line(error_of, decided_folder, arguments, code, message):
    ended, said = error_of(str(decided_folder), *arguments)
    assert ended == code
    assert message in said
    assert not list(Path.cwd().iterdir())
