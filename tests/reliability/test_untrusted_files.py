# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A stranger's file cannot hurt who opens it: it runs no code, reaches no other file, and fools no reader."""

import ast
import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.hub_process import client_environment
from helpers.hub_server import BRANCH, HubRequestHandler, RepoStore
from PIL import Image
from transformers import AutoModelForSemanticSegmentation

import cgrseg_hf
from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegModel, EfficientFormerV2Backbone
from cgrseg_hf.commands.main import _PrintableFormatter, main
from cgrseg_hf.conversion import from_official, load_imagenet_backbone
from cgrseg_hf.data import load_data
from cgrseg_hf.data.tables import open_picture
from cgrseg_hf.demo import html
from cgrseg_hf.demo.models import CardExcerpt, ModelShelf
from cgrseg_hf.demo.session import ClassArea, PixelAnswer
from cgrseg_hf.engines.exported_engine import open_export
from cgrseg_hf.evaluation.report import _file_name, escape_cell
from cgrseg_hf.hub.cards import escape_values, read_card, read_facts
from cgrseg_hf.hub.staging import stage_export, stage_folder, stage_report
from cgrseg_hf.inference import Segmenter
from cgrseg_hf.inference.image_rows import open_rows
from cgrseg_hf.inference.results import _write_heat_map, plan_jobs
from cgrseg_hf.training import TrainingConfig
from cgrseg_hf.training.config import load_recipe
from cgrseg_hf.training.models import make_model
from cgrseg_hf.utils.messages import printable
from cgrseg_hf.visualization import draw_legend, draw_side_by_side
from cgrseg_hf.visualization.plots import draw_confusion_matrix

PACKAGE_PARENT = Path(cgrseg_hf.__file__).parents[1]
# What a terminal would obey: clear the screen, a command in one character, go back, ring, turn the writing around.
CONTROLS = ("\x1b[2J", "\x9b2J", "\r", "\x07", "\u202e", "\x1b]0;title\x07", "\x7f", "\u2066", "\udc9b")
HOSTILE = "".join(CONTROLS[:-1])


@contextlib.contextmanager
def trying(attack: str, entry_point: str) -> Iterator[None]:
    """Name an attack."""
    yield


class Bomb:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "code-has-run"


@pytest.fixture
def bomb(marker, tmp_path) -> Path:
    """A checkpoint that would run code."""
    file = tmp_path / "weights.pth"
    torch.save({"state_dict": {"a": torch.zeros(2)}, "meta": Bomb(marker)}, file)
    return file


@pytest.fixture
def bad_model(bomb, decided_folder, tmp_path) -> Path:
    """A model's folder whose weights would run code."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(decided_folder / name, folder)
    shutil.copy(bomb, folder / "pytorch_model.bin")
    return folder


@pytest.fixture
def command(monkeypatch, capfd) -> Callable[..., tuple[int, str]]:
    """Run `cgrseg` in this process; its exit code, and what it printed."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cgrseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return ended.value.code, captured.out + captured.err

    return run


# 1. Files that would run code.

LOADERS: dict[str, Callable[[Path], object]] = {
    "CGRSegForSemanticSegmentation": CGRSegForSemanticSegmentation.from_pretrained,
    "CGRSegModel": CGRSegModel.from_pretrained,
    "EfficientFormerV2Backbone": EfficientFormerV2Backbone.from_pretrained,
    "weights_only=False": lambda folder: CGRSegForSemanticSegmentation.from_pretrained(folder, weights_only=False),
    "AutoModelForSemanticSegmentation": AutoModelForSemanticSegmentation.from_pretrained,
    "Segmenter": Segmenter.from_pretrained,
    "the demo's models": lambda folder: ModelShelf([str(folder)], engine="torch"),
    "training, model": lambda folder: make_model(TrainingConfig(model=str(folder)), {0: "a", 1: "b"}, 255),
    "push": lambda folder: stage_folder(folder, folder / "staged", "user/model"),
}


@pytest.mark.parametrize("entry_point", LOADERS)
def test_a_model_with_pickled_code_is_refused(entry_point, bad_model, marker):
    with trying("pickle in pytorch_model.bin", entry_point):
        with pytest.raises(ValueError, match="safetensors") as refused:
            LOADERS[entry_point](bad_model)
        assert str(bad_model) in str(refused.value)
        assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "length"), [("pytorch_model.bin", 0), ("model.safetensors", 0), ("model.safetensors", 9999)]
)
def test_weights_that_are_cut_off_are_refused(name, length, bad_model, decided_folder):
    (bad_model / "pytorch_model.bin").unlink()
    (bad_model / name).write_bytes((decided_folder / "model.safetensors").read_bytes()[:length])
    with pytest.raises(ValueError, match=f"The weights of {re.escape(str(bad_model))} .* are damaged"):
        CGRSegForSemanticSegmentation.from_pretrained(bad_model)


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "PHOTOS", "--model", "MODEL", "--engine", "torch", "--output", "OUT"),
        ("evaluate", "MODEL", "--data", "DATA"),
        ("export", "MODEL", "--output", "OUT"),
        ("convert", "MODEL", "--output", "OUT/a.pth"),
        ("push", "MODEL", "user/model", "--dry-run"),
        ("demo", "--model", "MODEL", "--port", "0", "--engine", "torch"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_refuse_pickled_code_in_a_line(arguments, command, bad_model, marker, photos, small_data, tmp_path):
    if arguments[0] == "demo":
        pytest.importorskip("gradio")
    places = {
        "PHOTOS": photos,
        "DATA": small_data,
        "MODEL": bad_model,
        "OUT": tmp_path / "out",
        "OUT/a.pth": tmp_path / "a.pth",
    }
    with trying("pickle in pytorch_model.bin", f"cgrseg {arguments[0]}"):
        code, said = command(*(places.get(argument, argument) for argument in arguments))
        assert code == 1
        assert "safetensors" in said and str(bad_model) in said and "Traceback" not in said
        assert not marker.exists()


def test_checkpoints_of_others_with_pickled_code_are_refused(bomb, marker, decided_model, command, tmp_path):
    readers = {
        "from_official": lambda: from_official(bomb),
        "load_imagenet_backbone": lambda: load_imagenet_backbone(decided_model, bomb),
    }
    for name, read in readers.items():
        with trying("pickle in .pth", name):
            with pytest.raises(ValueError, match="could run code") as refused:
                read()
            assert str(bomb) in str(refused.value) and not marker.exists()
    with trying("pickle in .pth", "cgrseg convert"):
        code, said = command("convert", bomb, "--output", tmp_path / "converted")
        assert code == 1 and str(bomb) in said and not marker.exists()


@pytest.mark.parametrize("location", ["../outside.bin", "ABSOLUTE", "link.bin"])
def test_external_data_of_onnx_stay_in_the_folder(location, decided_folder, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import helper

    outside, folder = tmp_path / "outside.bin", tmp_path / "exported"
    outside.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    folder.mkdir()
    (folder / "link.bin").symlink_to(outside)
    weights = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=str(outside) if location == "ABSOLUTE" else location)
    ends = [helper.make_tensor_value_info(name, 1, [1, 3, 2, 4]) for name in ("pixel_values", "logits")]
    graph = helper.make_graph([helper.make_node("Add", ["pixel_values", "w"], ["logits"])], "g", ends[:1], ends[1:])
    graph.initializer.append(weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "export.json").write_text('{"format": "onnx"}')
    shutil.copy(decided_folder / "config.json", folder)
    with trying("external data outside of the folder", "exported folder, .onnx"):
        with pytest.raises(ValueError, match="cannot be loaded") as refused:
            open_export(folder)
        assert str(folder / "model.onnx") in str(refused.value)


@pytest.mark.parametrize(
    ("format", "name"), [("openvino", "model.xml"), ("onnx", "model.onnx"), ("torch", "model.pt2")]
)
def test_a_pickle_under_the_name_of_an_export_is_refused(format, name, decided_folder, marker, tmp_path):
    pytest.importorskip({"openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}[format])
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(marker)))
    (tmp_path / "export.json").write_text(json.dumps({"format": format}))
    shutil.copy(decided_folder / "config.json", tmp_path)
    with trying("pickle in its place", f"exported folder, {name}"):
        with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
            open_export(tmp_path)
        assert not marker.exists()


def test_arrays_of_objects_are_refused(marker, decided_folder, command, tmp_path):
    file = tmp_path / "photo.npy"
    np.save(file, np.array([[Bomb(marker)]], dtype=object), allow_pickle=True)
    with trying("array of objects", "open_rows"):
        with pytest.raises(ValueError, match="plain numbers") as refused:
            open_rows(file)
        assert str(file) in str(refused.value) and not marker.exists()
    with trying("array of objects", "cgrseg predict --tile"):
        code, said = command(
            *("predict", file, "--tile", "64", "--engine", "torch", "--model", decided_folder),
            *("--output", tmp_path / "out"),
        )
        assert code == 1 and str(file) in said and not marker.exists()


def test_pickles_in_tables_and_archives_are_not_loaded(marker, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    from cgrseg_hf.cluster.shards import list_shards, read_photos

    content = pickle.dumps(Bomb(marker))
    folder = tmp_path / "table"
    folder.mkdir()
    field = pa.field("image", pa.binary(), metadata={
        "ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": content
    })  # fmt: skip
    table = pa.table([pa.array([content]), pa.array([content])], schema=pa.schema([field, ("label", pa.binary())]))
    pyarrow.parquet.write_table(table, folder / "train.parquet")
    (folder / "classes.txt").write_text("a\nb\n")
    with trying("pickle in a parquet column", "load_data"):
        data = load_data(folder, "train", image_column="image", annotation_column="label")
        with pytest.raises(ValueError, match="cannot be read"):
            data.read(data.rows[0])
        assert not marker.exists()
    archive = tmp_path / "photos.tar"
    with tarfile.open(archive, "w") as tar:
        for name in ("0.pkl", "0.pyd", "0.pth", "0.jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with trying("pickle in a WebDataset member", "cgrseg predict --cluster"):
        (shard,) = list_shards(str(archive))
        assert [photo.name for photo in read_photos(shard)] == ["photos.tar/0.jpg"]
        assert not marker.exists()


def test_yaml_and_json_hold_values_alone(marker, decided_folder, tmp_path):
    content = f"base: !!python/object/apply:builtins.open ['{marker}', w]\n"
    file, report, model = tmp_path / "recipe.yaml", tmp_path / "report.json", tmp_path / "model"
    file.write_text(content)
    report.write_bytes(pickle.dumps(Bomb(marker)))
    model.mkdir()
    (model / "README.md").write_text(f"---\n{content}---\n# A model\n")
    readers = {
        "recipe": (lambda: load_recipe(file), file),
        "facts of a card": (lambda: read_facts(file), file),
        "card": (lambda: read_card(model), model),
        "evaluation's report": (lambda: stage_report(report, model, tmp_path, "user/model", {}, {}), report),
    }
    for name, (read, where) in readers.items():
        with trying("code in YAML or JSON", name):
            with pytest.raises(ValueError, match=re.escape(str(where))):
                read()
            assert not marker.exists()


# 2. The code that travels with a model.

AUDIT = """
import sys
folder, site = sys.argv[1], tuple({sys.prefix, sys.base_prefix, *filter(None, sys.path)})
sys.modules["cgrseg_hf"] = None
phase, direct, used = "load", [], []
NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.remove", "os.rename",
         "shutil.", "urllib.", "ctypes.dlopen", "os.chmod")

def audit(event, arguments):
    if not (event in ("open", "exec", "compile", "import") or event.startswith(NEVER)):
        return
    frame = sys._getframe(1)
    is_ours = "transformers_modules" in frame.f_code.co_filename
    if event == "import":
        return
    if is_ours:
        direct.append((event, str(arguments)[:200], frame.f_code.co_name))
    if phase == "use":
        path = str(arguments[0])
        is_module = path.startswith(site) or "transformers_modules" in path
        if event == "open" and is_module and path.endswith((".py", ".pyc", ".so")):
            return  # a module that is loaded when it is first needed
        if event in ("exec", "compile"):
            return  # of such modules; what our own code executes is counted above
        used.append((event, str(arguments)[:200], frame.f_code.co_filename))

sys.addaudithook(audit)
import json
import numpy, torch
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation
processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForSemanticSegmentation.from_pretrained(folder, trust_remote_code=True).eval()
assert type(model).__module__.startswith("transformers_modules"), type(model)
photo = numpy.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=numpy.uint8)
phase = "use"
inputs = processor(photo, return_tensors="pt")
with torch.no_grad():
    outputs = model(**inputs)
    fast = model.optimize_for_inference()(inputs["pixel_values"])
maps = processor.post_process_semantic_segmentation(outputs, [(70, 90)])
phase = "end"
assert maps[0].shape == (70, 90)
print(json.dumps({"direct": direct, "used": used}))
"""


@pytest.fixture(scope="module")
def travelling(decided_folder, tmp_path_factory) -> Path:
    """A model with its code, as it goes to the Hub."""
    folder = tmp_path_factory.mktemp("travelling")
    source = tmp_path_factory.mktemp("source") / "model"
    shutil.copytree(decided_folder, source)
    metadata = "license: apache-2.0\nlibrary_name: transformers\npipeline_tag: image-segmentation\n"
    (source / "README.md").write_text(f"---\n{metadata}---\n# A model\n\nIt.\n")
    stage_folder(source, folder, "user/model")
    return folder


@pytest.mark.reliability
def test_code_beside_a_model_opens_nothing(travelling, tmp_path):
    environment = client_environment("http://127.0.0.1:9", tmp_path) | {"HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", AUDIT, str(travelling)], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout.splitlines()[-1])
    with trying("files, network and processes", "remote code, loading"):
        assert seen["direct"] == []
    with trying("files, network and processes", "remote code, forward and post-processing"):
        assert seen["used"] == []


# Modules that the travelling code may import, and of some the only names.
IMPORTS = {
    *("ast", "collections", "collections.abc", "contextlib", "copy", "dataclasses", "difflib", "errno"),
    *("functools", "math", "stat", "threading"),
    *("numpy", "torch", "torchvision", "transformers", "typing", "PIL"),
    *("huggingface_hub.dataclasses",),
}
NAMES = {
    "pickle": {"UnpicklingError"},
    "safetensors": {"SafetensorError"},
    "os": {"PathLike", "fspath"},
    "pathlib": {"Path"},
}
# Of a path, only what it is may be asked.
METHODS = {"read_text", "read_bytes", "write_text", "write_bytes", "unlink", "rename", "rmdir", "mkdir"}
CALLS = {"open", "exec", "eval", "compile", "__import__", "breakpoint", "input", "globals", "vars"}


def test_code_beside_a_model_imports_nothing_that_reaches_out(travelling):
    files = sorted(file for file in travelling.glob("*.py") if file.name != "handler.py")
    assert len(files) == 8
    for file in files:
        with trying("imports that reach out", file.name):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    assert all(is_allowed(alias.name) or alias.name in NAMES for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = {alias.name for alias in node.names}
                    assert is_allowed(node.module) or names <= NAMES.get(node.module, set()), ast.unparse(node)
                elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in NAMES:
                    assert node.attr in NAMES[node.value.id], ast.unparse(node)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id not in CALLS, ast.unparse(node)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    assert node.func.attr not in METHODS, ast.unparse(node)


def is_allowed(module: str) -> bool:
    return module in IMPORTS or module.partition(".")[0] in IMPORTS


# 3. Names that are more than names.

MARKUP = "<script>alert(1)</script>\"'|`[a](javascript:b)`"


def test_names_are_text_in_html():
    segmenter = SimpleNamespace(id2label={0: MARKUP, 1: "b"})
    card = CardExcerpt(title=MARKUP, summary=MARKUP, notice=MARKUP, data_sets=(MARKUP,))
    pieces = {
        "message": html.message(MARKUP),
        "model": html.model_description(SimpleNamespace(name=MARKUP, segmenter=segmenter, card=card)),
        "classes": html.class_table([ClassArea(0, MARKUP, (1, 2, 3), 0.5)]),
        "pixel": html.pixel_answer(PixelAnswer(1, 2, 0, MARKUP, 0.5, (MARKUP, 0.2)), (1, 2, 3)),
    }
    for name, piece in pieces.items():
        with trying("markup in names", f"HTML of the page, {name}"):
            assert "<script" not in piece and "&lt;script&gt;" in piece
            assert MARKUP.split("<script>")[1] not in piece


def test_names_are_text_on_cards():
    hostile = f"{MARKUP}\n\n# Title\n| a | \\| b |\x1b[2J"
    with trying("markup in names", "cards"):
        shown = escape_values({"classes": [{"name": hostile}]})["classes"][0]["name"]
        assert not set("\n\x1b<>") & set(shown)
        assert not re.search(r"(?<!\\)(\\\\)*[`|\[\]*~]", shown)  # each is escaped, and no backslash undoes it
        assert escape_values("road 12 (left), traffic_light") == "road 12 (left), traffic_light"


def test_names_are_text_in_tables():
    for start in ("=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "  =1", "\n=1", "\uff1d1"):
        with trying("formulas in names", "CSV"):
            assert escape_cell(start).startswith("'"), start
    assert escape_cell("road") == "road"


@pytest.mark.parametrize("control", CONTROLS, ids=[ascii(control) for control in CONTROLS])
def test_text_for_the_terminal_shows_control_characters(control):
    with trying("control characters", "printable"):
        shown = printable(f"a{control}b")
        assert shown.isprintable() and json.loads(f'"{shown}"') == f"a{control}b"


def has_controls(text: str) -> bool:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)  # the command's own colours
    return any(not (character.isprintable() or character in "\n\t") for character in plain)


def test_commands_show_control_characters_of_names(command, decided_folder, photos, tmp_path, monkeypatch):
    model, folder = tmp_path / "model", tmp_path / "photos"
    shutil.copytree(decided_folder, model)
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = {key: f"{HOSTILE}{key}" for key in config["id2label"]}
    config["label2id"] = {f"{HOSTILE}{key}": int(key) for key in config["id2label"]}
    (model / "config.json").write_text(json.dumps(config))
    folder.mkdir()
    (folder / f"broken{HOSTILE}.jpg").write_bytes(b"no picture")
    small = Image.open(next(photos.glob("*.jpg"))).resize((80, 60))
    small.save(folder / f"good{HOSTILE}.png")
    out = tmp_path / "out"
    runs = {
        "predict --json": ("predict", folder, "--model", model, "--engine", "torch", "--output", out, "--json"),
        "a usage error": ("predict", "a.jpg", "--engine", HOSTILE),
        "an unknown option": ("predict", f"--{HOSTILE}"),
        "an unknown command": (HOSTILE,),
        "check-data": ("check-data", tmp_path / HOSTILE),
        "convert": ("convert", tmp_path / f"{HOSTILE}.pth"),
        "evaluate": ("evaluate", tmp_path / HOSTILE),
    }
    for name, arguments in runs.items():
        with trying("control characters in names", f"cgrseg {name}"):
            _, said = command(*arguments)
            # Of a progress bar's lines only the last counts: it goes back to the start of its line.
            bars = [line for line in said.split("\n") if "photo/s" in line or "it/s" in line or "s/photo" in line]
            words = "\n".join(line for line in said.split("\n") if line not in bars)
            assert not has_controls(words), ascii(words)
            assert all(control not in "".join(bars) for control in CONTROLS if control != "\r")
            assert "\\u" in said
    with trying("control characters in names", "logged messages"):
        record = logging.LogRecord("a", logging.WARNING, "f", 1, "%s", (HOSTILE,), None)
        assert not has_controls(_PrintableFormatter().format(record))


def test_pictures_with_names_of_any_kind_are_drawn():
    names = {0: HOSTILE, 1: "two\nlines", 2: "long " * 20_000, 3: "\udc9b\u0000"}
    label_map = np.arange(64, dtype=np.uint8).reshape(8, 8) % 4
    plain = dict.fromkeys(names, "x" * 80)

    def draw(id2label: dict[int, str], title: str) -> list[Image.Image]:
        photo = Image.new("RGB", (8, 8))
        rows = [((1, 2, 3), name, "1%") for name in id2label.values()]
        return [
            draw_side_by_side(photo, label_map, id2label, captions=(title, "Prediction")),
            draw_confusion_matrix(np.ones((4, 4), dtype=np.int64), id2label),
            draw_legend(rows, 200),
        ]

    with trying("control characters and great length in names", "panels, confusion matrix and legend"):
        for picture, usual in zip(draw(names, "".join(names.values())), draw(plain, "x" * 200)):
            assert picture.width <= 2 * usual.width and picture.height <= 2 * usual.height


# 4. Names that lead elsewhere.

PATHS = ("../../up", "/absolute", "..\\..\\up", "C:\\up", "a/../../up", "..", ".", "\x00", "up\n/../x", "~root/up")


@pytest.mark.parametrize("name", PATHS, ids=ascii)
def test_results_stay_in_their_folder(name, tmp_path):
    out = tmp_path / "out"
    with trying("names that lead elsewhere", "predict, places"):
        (job,) = plan_jobs([Path(name.replace("\x00", "") + ".jpg")], out)
        assert (tmp_path / "out" / "x").resolve().parent in job.target.resolve().parents
    with trying("names that lead elsewhere", "predict, heat maps"):
        written: list[Path] = []
        picture = SimpleNamespace(save=lambda file, **_: written.append(file))
        shown = SimpleNamespace(id2label={0: name}, heat_map=lambda *_, **__: picture)
        assert _write_heat_map(shown, out / "photo", name) == written[0]
        assert written[0].parent == out and "/" not in written[0].name and "\\" not in written[0].name
    with trying("names that lead elsewhere", "evaluate, panels"):
        part = _file_name(name)
        assert (out / f"01_{part}.png").resolve().parent == out.resolve() and "\\" not in part


def test_keys_of_archives_are_names_and_no_paths(photos, decided_folder, tmp_path):
    from cgrseg_hf.cluster.results import ResultStore, error_row
    from cgrseg_hf.cluster.shards import list_shards, read_photos

    archive, content = tmp_path / "in" / "photos.tar", next(photos.glob("*.jpg")).read_bytes()
    archive.parent.mkdir()
    names = ("../../up.jpg", "/tmp/absolute.jpg", "..\\up.jpg", "a/b.jpg")
    with tarfile.open(archive, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../up.jpg")):
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = kind, target
            tar.addfile(link)
    with trying("keys and links that lead elsewhere", "cgrseg predict --cluster"):
        (shard,) = list_shards(str(archive))
        rows = [error_row(photo.name, ValueError("none")) for photo in read_photos(shard)]
        assert [row["name"] for row in rows] == [f"photos.tar/{name}" for name in names]  # and not the links
        before = set(tmp_path.rglob("*"))
        ResultStore(str(tmp_path / "out")).begin({})
        ResultStore(str(tmp_path / "out")).write_rows(shard.name, rows, {0: "../a"})
        new = set(tmp_path.rglob("*")) - before - {tmp_path / "out"}
        assert new == {tmp_path / "out" / "settings.json", tmp_path / "out" / f"{shard.name}.parquet"}


def test_links_of_a_folder_are_not_published(decided_folder, travelling, tmp_path):
    secret, source = tmp_path / "secret.txt", tmp_path / "model"
    secret.write_text("secret")
    shutil.copytree(travelling, source)
    (source / "LICENSE.txt").symlink_to(secret)
    with trying("links out of the folder", "push"):
        with pytest.raises(ValueError, match="would publish") as refused:
            stage_folder(source, tmp_path / "staged", "user/model") if (tmp_path / "staged").mkdir() is None else None
        assert str(source / "LICENSE.txt") in str(refused.value)
    export, target = tmp_path / "export", tmp_path / "target"
    shutil.copytree(decided_folder, export)
    (export / "export.json").write_text('{"format": "onnx"}')
    (export / "model.onnx").symlink_to(secret)
    target.mkdir()
    id2label = CGRSegForSemanticSegmentation.from_pretrained(decided_folder).config.id2label
    with trying("links out of the folder", "push, exports"):
        with pytest.raises(ValueError, match="would publish"):
            stage_export(export, target, dict(id2label))
        assert not list(target.rglob("model.onnx"))


# Pictures and videos that are something else.


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A web server's address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 (http.server's name)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_rows_of_tables_lead_to_no_address(listener, tmp_path):
    address, asked = listener
    for path in (
        f"{address}/a.png",
        f"simplecache::{address}/a.png",
        f"reference://a::{address}/a.json",
        f"zip://a.png::{address}/a.zip",
        "ssh://127.0.0.1/a.png",
    ):
        with trying("addresses in a table", "load_data"):
            with pytest.raises(OSError, match="not followed") as refused:
                open_picture({"bytes": None, "path": path})
            assert path in str(refused.value) and asked == []


def test_postscript_starts_no_program(tmp_path):
    started: list[object] = []
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    is_on = [True]
    sys.addaudithook(lambda event, what: started.append(what) if event == "subprocess.Popen" and is_on[0] else None)
    try:
        with trying("PostScript as a picture", "load_data"):
            with pytest.raises(OSError, match="unknown format"):
                open_picture({"bytes": postscript, "path": None})
            assert started == []
    finally:
        is_on[0] = False


def test_play_lists_are_no_videos(listener, tmp_path):
    av = pytest.importorskip("av")
    from cgrseg_hf.inference import UnreadablePictureError, Video

    address, asked = listener
    real = tmp_path / "real.avi"
    with av.open(str(real), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert sum(1 for _ in Video(real)) == 5
    lists = {
        "HLS": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n",
        "HLS of a file": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{real}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile {real.name}\n",
        "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }
    for kind, text in lists.items():
        file = tmp_path / "list.mp4"
        file.write_text(text)
        with trying(f"play list, {kind}", "Video"):
            with pytest.raises(UnreadablePictureError, match=r"list\.mp4"):
                list(Video(file))
            assert asked == []


# 5. The page.


@pytest.mark.reliability
def test_the_page_serves_nothing_outside_its_folder(decided_folder, tmp_path):
    pytest.importorskip("gradio")
    secret, temporary = tmp_path / "secret.txt", tmp_path / "temporary"
    secret.write_text("the-secret")
    temporary.mkdir()
    command = [sys.executable, "-m", "cgrseg_hf", "demo", "--port", "0", "--engine", "torch", "--model", decided_folder]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE_PARENT), environment.get("PYTHONPATH", "")])
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as page:
        try:
            address = next(found for line in page.stdout if (found := re.search(r"127\.0\.0\.1:(\d+)", line)))
            (folder,) = temporary.glob("cgrseg-demo-*")
            (folder / "link.txt").symlink_to(secret)
            up = "/".join([".."] * 12)
            encoded, twice = "/".join(["%2e%2e"] * 12), "%252e%252e%252f" * 12
            places = (
                f"/{up}{secret}",
                f"/{encoded}{secret}",
                f"/{twice}{secret}",
                f"//{secret}",
                f"/..%2f..%2f{secret}",
            )
            starts = ("", "/file=", "/gradio_api/file=", "/static", "/assets", "/theme.css")
            files = [f"{start}{place}" for start in starts for place in places]
            files += [f"/gradio_api/file={secret}", f"/gradio_api/file={folder}/link.txt", f"/file={secret}"]
            files += [f"/gradio_api/file={folder}/../{up}{secret}", f"/gradio_api/file={folder}%00{secret}"]
            files += [f"/gradio_api/file={decided_folder}/config.json", f"/gradio_api/file=file://{secret}"]
            files += [f"/gradio_api/proxy=http://127.0.0.1:{address[1]}/x", f"/gradio_api/file={up}{secret}"]
            for file in files:
                with trying("paths out of the folder", "page over HTTP"):
                    answer = ask(int(address[1]), file)
                    assert b"the-secret" not in answer and b"model_type" not in answer, file
        finally:
            page.terminate()


def ask(port: int, path: str) -> bytes:
    """What a server says to a path as it is written, which clients would shorten."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


# 6. A Hub that errs.


class ErringHub(HubRequestHandler):
    """A Hub that does something wrong where it sends the weights."""

    error: str | None = None

    def _send(self, status: int, content: bytes, content_type: str, headers: dict[str, str]) -> None:
        if "/resolve/" not in self.path or not self.path.endswith("model.safetensors") or self.error is None:
            return super()._send(status, content, content_type, headers)
        announced = len(content)
        headers = {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if self.error == "a name with ../":
            headers = {**headers, "ETag": '"../../../up"', "X-Repo-Commit": "../../up"}
        if self.command != "HEAD":
            if self.error == "cut off":
                content = content[: len(content) // 2]
                self.close_connection = True
            elif self.error == "shorter than announced":
                content = content[: len(content) // 2]
                announced = len(content)
            elif self.error == "longer than announced":
                content += b"more"
                announced = len(content)
            elif self.error == "a page instead":
                content = b"<html>Please log in</html>"
                announced = len(content)
            elif self.error == "another byte":
                content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return None

    def log_message(self, *_: object) -> None:
        pass


ERRORS = ("cut off", "shorter than announced", "longer than announced", "a page instead", "a name with ../")
LOADING = "from cgrseg_hf import CGRSegForSemanticSegmentation as Model; Model.from_pretrained('user/model')"
CHECKED_LOADING = "from cgrseg_hf.inference import make_engine; make_engine('user/model', 'torch', 'cpu')"


@pytest.fixture
def erring_hub(decided_folder, tmp_path) -> Iterator[tuple[str, type[ErringHub]]]:
    """A Hub with a model, which errs as it is told."""
    store = RepoStore(tmp_path / "repos")
    store.create("user/model")
    store.create_branch("user/model", "files")
    operations = []
    for name in ("config.json", "model.safetensors"):
        content = __import__("base64").b64encode((decided_folder / name).read_bytes()).decode()
        operations.append({"key": "file", "value": {"path": name, "content": content}})
    store.commit("user/model", BRANCH, operations)

    class Handler(ErringHub):
        pass

    Handler.store = store
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()


def load_in_a_fresh_process(code: str, endpoint: str, folder: Path) -> subprocess.CompletedProcess:
    environment = client_environment(endpoint, folder)
    environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE_PARENT), environment.get("PYTHONPATH", "")])
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


def finished_weights(cache: Path) -> list[Path]:
    return [file for file in cache.rglob("model.safetensors") if file.exists()]


@pytest.mark.parametrize("error", ERRORS)
def test_a_wrong_answer_of_the_hub_is_not_kept(error, erring_hub, decided_folder, tmp_path, monkeypatch):
    from huggingface_hub import hf_hub_download

    endpoint, handler = erring_hub
    monkeypatch.setattr(time, "sleep", lambda _: None)
    cache = tmp_path / "deep" / "er" / "and" / "deeper" / "cache"
    where = {"endpoint": endpoint, "cache_dir": cache, "token": False}
    handler.error = error
    before = {file for file in tmp_path.rglob("*") if cache not in file.parents}
    with trying(f"answer {error}", "Hub, download"):
        if error.startswith("a name"):
            with contextlib.suppress(Exception):
                hf_hub_download("user/model", "model.safetensors", **where)
            new = {file for file in tmp_path.rglob("*") if cache not in file.parents} - before
            assert not {file for file in new if file.is_file()}
            shutil.rmtree(cache, ignore_errors=True)
        else:
            with pytest.raises(Exception):  # noqa: B017 (each of the clients that were used has errors of its own)
                hf_hub_download("user/model", "model.safetensors", **where)
            assert finished_weights(cache) == []
        handler.error = None
        file = Path(hf_hub_download("user/model", "model.safetensors", **where))
        assert file.read_bytes() == (decided_folder / "model.safetensors").read_bytes()


@pytest.mark.reliability
@pytest.mark.parametrize("error", ["cut off", "shorter than announced", "a page instead"])
def test_a_model_of_an_erring_hub_is_not_loaded_in_part(error, erring_hub, tmp_path):
    endpoint, handler = erring_hub
    load = functools.partial(load_in_a_fresh_process, LOADING, endpoint, tmp_path)
    handler.error = error
    with trying(f"answer {error}", "Hub, model in a fresh process"):
        failed = load()
        assert failed.returncode != 0 and failed.stderr.strip()
        assert finished_weights(tmp_path / "home") == []
        handler.error = None
        assert load().returncode == 0


@pytest.mark.reliability
def test_weights_of_a_wrong_checksum_are_not_kept(erring_hub, tmp_path):
    endpoint, handler = erring_hub
    load = functools.partial(load_in_a_fresh_process, CHECKED_LOADING, endpoint, tmp_path)
    handler.error = "another byte"
    with trying(f"answer with {handler.error}", "Hub, model in a fresh process"):
        failed = load()
        assert failed.returncode != 0 and "sent of user/model is damaged" in failed.stderr
        assert finished_weights(tmp_path / "home") == []
        handler.error = None
        assert load().returncode == 0
        # What was fetched before is not asked for again.
        handler.error = "another byte"
        assert load().returncode == 0
