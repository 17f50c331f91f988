# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Files made to do harm run no code, reach no other file or address, and fool no reader."""

import io
import json
import pickle
import re
import shutil
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from transformers import AutoModelForSemanticSegmentation

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegModel, EfficientFormerV2Backbone
from cgrseg_hf.cluster import ResultStore, list_shards, read_photos
from cgrseg_hf.commands.main import main
from cgrseg_hf.conversion import load_imagenet_backbone
from cgrseg_hf.data import load_data
from cgrseg_hf.engines.exported_engine import open_export
from cgrseg_hf.evaluation.report import _file_name
from cgrseg_hf.hub.cards import escape_values, read_card, read_facts
from cgrseg_hf.hub.staging import stage_export, stage_folder, stage_report
from cgrseg_hf.inference import Segmenter
from cgrseg_hf.inference.image_rows import open_rows
from cgrseg_hf.inference.result_paths import plan_jobs
from cgrseg_hf.training import TrainingConfig
from cgrseg_hf.training.config import load_recipe
from cgrseg_hf.training.models import make_model
from cgrseg_hf.utils.messages import printable

# What a terminal would obey: clear the screen, a command in one character, go back, ring, turn the writing around.
CONTROLS = ("\x1b[2J", "\x9b2J", "\r", "\x07", "\u202e", "\x1b]0;title\x07", "\x7f", "\u2066", "\udc9b")
HOSTILE = "".join(CONTROLS[:-1])


class Bomb:
    """An object whose pickle makes a file when it is loaded."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path) -> Iterator[Path]:
    """The file that code would make; no test may leave it behind."""
    file = tmp_path / "code-has-run"
    yield file
    assert not file.exists()


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
    """Run `cgrseg` in this process; returns its exit code, and what it printed."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["cgrseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capfd.readouterr()
        return ended.value.code, captured.out + captured.err

    return run


# Code in files


@pytest.mark.parametrize(
    "load",
    [
        CGRSegForSemanticSegmentation.from_pretrained,
        CGRSegModel.from_pretrained,
        EfficientFormerV2Backbone.from_pretrained,
        lambda folder: CGRSegForSemanticSegmentation.from_pretrained(folder, weights_only=False),
        AutoModelForSemanticSegmentation.from_pretrained,
        Segmenter.from_pretrained,
        lambda folder: make_model(TrainingConfig(model=str(folder)), {0: "a", 1: "b"}, 255),
        lambda folder: stage_folder(folder, folder / "staged", "user/model"),
    ],
)
def test_a_model_with_pickled_code_is_refused(load, bad_model):
    with pytest.raises(ValueError, match="safetensors") as refused:
        load(bad_model)
    assert str(bad_model) in str(refused.value)


def test_commands_refuse_pickled_code_in_a_line(command, bad_model, bomb, photos, tmp_path):
    photo = next(photos.glob("*.jpg"))
    for arguments in (("predict", photo, "--engine", "torch", "--model", bad_model), ("export", bad_model)):
        code, said = command(*arguments, "--output", tmp_path / "out")
        assert code == 1
        assert "safetensors" in said and str(bad_model) in said and "Traceback" not in said
    code, said = command("convert", bomb, "--output", tmp_path / "converted")
    assert code == 1 and str(bomb) in said


def test_imagenet_weights_with_pickled_code_are_refused(bomb, decided_model):
    with pytest.raises(ValueError, match=re.escape(str(bomb))):
        load_imagenet_backbone(decided_model, bomb)


@pytest.mark.parametrize("model_type", ["cgrseg", "stranger"])
def test_code_beside_a_model_does_not_run_without_trust(model_type, decided_folder, marker, tmp_path):
    folder = shutil.copytree(decided_folder, tmp_path / "model")
    (folder / "stranger.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    auto_map = {"AutoConfig": "stranger.Config", "AutoModelForSemanticSegmentation": "stranger.Model"}
    change_config(folder, model_type=model_type, auto_map=auto_map)
    if model_type == "cgrseg":
        Segmenter.from_pretrained(folder, "torch")  # with the package's own code
    else:
        with pytest.raises(ValueError, match="trust_remote_code"):
            Segmenter.from_pretrained(folder, "torch")


def change_config(folder: Path, **values) -> None:
    """Change values of the configuration in a folder."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("location", ["../outside.bin", "ABSOLUTE", "link.bin"])
def test_external_data_of_onnx_stays_in_the_folder(location, decided_folder, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    outside, folder = tmp_path / "outside.bin", tmp_path / "exported"
    outside.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    folder.mkdir()
    (folder / "link.bin").symlink_to(outside)
    weights = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=str(outside) if location == "ABSOLUTE" else location)
    ends = [onnx.helper.make_tensor_value_info(name, 1, [1, 3, 2, 4]) for name in ("pixel_values", "logits")]
    node = onnx.helper.make_node("Add", ["pixel_values", "w"], ["logits"])
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], initializer=[weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "export.json").write_text('{"format": "onnx"}')
    shutil.copy(decided_folder / "config.json", folder)
    with pytest.raises(ValueError, match=re.escape(str(folder / "model.onnx"))):
        open_export(folder)


@pytest.mark.parametrize(
    ("format", "name", "package"),
    [("openvino", "model.xml", "openvino"), ("onnx", "model.onnx", "onnxruntime"), ("torch", "model.pt2", "torch")],
)
def test_a_pickle_under_the_name_of_an_export_is_refused(format, name, package, decided_folder, marker, tmp_path):
    pytest.importorskip(package)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(marker)))
    (tmp_path / "export.json").write_text(json.dumps({"format": format}))
    shutil.copy(decided_folder / "config.json", tmp_path)
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / name))):
        open_export(tmp_path)


def test_arrays_of_objects_are_refused(marker, tmp_path):
    np.save(tmp_path / "photo.npy", np.array([[Bomb(marker)]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"photo\.npy"):
        open_rows(tmp_path / "photo.npy")


def test_pickles_in_tables_and_archives_are_not_loaded(marker, tmp_path):
    content = pickle.dumps(Bomb(marker))
    extension = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": content}
    field = pa.field("image", pa.binary(), metadata=extension)
    columns = [pa.array([content]), pa.array([content])]
    data = write_and_load(pa.table(columns, schema=pa.schema([field, ("label", pa.binary())])), tmp_path / "table")
    with pytest.raises(ValueError, match="cannot be read"):
        data.read(data.rows[0])
    archive = make_archive(tmp_path / "photos.tar", content, "0.pkl", "0.pyd", "0.pth", "0.jpg")
    (shard,) = list_shards(str(archive))
    photos = read_photos(shard["files"], shard["root"])
    assert [photo.name for photo in photos] == ["photos.tar/0.jpg"]


def write_and_load(table: pa.Table, folder: Path):
    """Write a table into a folder, and load it as data."""
    folder.mkdir()
    pyarrow.parquet.write_table(table, folder / "train.parquet")
    (folder / "classes.txt").write_text("a\nb\n")
    return load_data(folder, "train", image_column="image", annotation_column="label")


def make_archive(file: Path, content: bytes, *names: str) -> Path:
    """Write a tar file whose members have these names."""
    with tarfile.open(file, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def test_yaml_and_json_hold_values_only(marker, tmp_path):
    content = f"base: !!python/object/apply:builtins.open ['{marker}', w]\n"
    file, report, model = tmp_path / "recipe.yaml", tmp_path / "report.json", tmp_path / "model"
    file.write_text(content)
    report.write_bytes(pickle.dumps(Bomb(marker)))
    model.mkdir()
    (model / "README.md").write_text(f"---\n{content}---\n# A model\n")
    for read, where in (
        (lambda: load_recipe(file), file),
        (lambda: read_facts(file), file),
        (lambda: read_card(model), model),
        (lambda: stage_report(report, model, tmp_path, "user/model", {}, {}), report),
    ):
        with pytest.raises(ValueError, match=re.escape(str(where))):
            read()


# Names that are more than names


def test_names_are_text_on_cards():
    hostile = "<script>alert(1)</script>\"'|`[a](javascript:b)`\n\n# Title\n| a | \\| b |\x1b[2J"
    shown = escape_values({"classes": [{"name": hostile}]})["classes"][0]["name"]
    assert not set("\n\x1b<>") & set(shown)
    assert not re.search(r"(?<!\\)(\\\\)*[`|\[\]*~]", shown)  # each is escaped, and no backslash undoes it


@pytest.mark.parametrize("control", CONTROLS, ids=ascii)
def test_text_for_the_terminal_shows_control_characters(control):
    shown = printable(f"a{control}b")
    assert shown.isprintable() and json.loads(f'"{shown}"') == f"a{control}b"


@pytest.mark.parametrize(
    "arguments",
    [
        ("predict", "PHOTOS", "--model", "MODEL", "--engine", "torch", "--output", "OUT", "--json"),
        ("predict", "a.jpg", "--engine", HOSTILE),
        ("predict", f"--{HOSTILE}"),
        (HOSTILE,),
        ("check-data", HOSTILE),
        ("convert", f"{HOSTILE}.pth"),
        ("evaluate", HOSTILE),
    ],
    ids=ascii,
)
def test_commands_show_control_characters_of_names(arguments, command, decided_folder, photos, tmp_path):
    places = {"PHOTOS": tmp_path / "photos", "MODEL": tmp_path / "model", "OUT": tmp_path / "out"}
    shutil.copytree(decided_folder, places["MODEL"])
    names = {key: f"{HOSTILE}{key}" for key in range(5)}
    change_config(places["MODEL"], id2label=names, label2id={name: key for key, name in names.items()})
    places["PHOTOS"].mkdir()
    (places["PHOTOS"] / f"broken{HOSTILE}.jpg").write_bytes(b"no image")
    Image.open(next(photos.glob("*.jpg"))).resize((80, 60)).save(places["PHOTOS"] / f"good{HOSTILE}.png")
    _, said = command(*(places.get(argument, argument) for argument in arguments))
    # A progress bar goes back to the start of its line.
    lines = [line for line in said.split("\n") if not re.search(r"photo/s|it/s|s/photo", line)]
    words = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines))  # without the command's own colours
    assert all(character.isprintable() or character in "\n\t" for character in words), ascii(words)
    assert all(control not in said for control in CONTROLS if control != "\r")
    assert "\\u" in said


# Paths that lead elsewhere


@pytest.mark.parametrize(
    "name",
    ["../../up", "/absolute", "..\\..\\up", "C:\\up", "a/../../up", "..", ".", "\x00", "up\n/../x", "~root/up"],
    ids=ascii,
)
def test_results_stay_in_their_folder(name, tmp_path):
    out = tmp_path / "out"
    (job,) = plan_jobs([Path(name.replace("\x00", "") + ".jpg")], out)
    assert out.resolve() in job.target.resolve().parents
    part = _file_name(name)
    assert (out / f"01_{part}.png").resolve().parent == out.resolve() and "\\" not in part


def test_keys_of_archives_are_names_and_not_paths(photos, tmp_path):
    names = ("../../up.jpg", "/tmp/absolute.jpg", "..\\up.jpg", "a/b.jpg")
    (tmp_path / "in").mkdir()
    archive = make_archive(tmp_path / "in" / "photos.tar", next(photos.glob("*.jpg")).read_bytes(), *names)
    with tarfile.open(archive, "a") as tar:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../up.jpg")):
            link = tarfile.TarInfo("link.jpg")
            link.type, link.linkname = kind, target
            tar.addfile(link)
    (shard,) = list_shards(str(archive))
    rows = [{"name": photo.name, "error": "none"} for photo in read_photos(shard["files"], shard["root"])]
    assert [row["name"] for row in rows] == [f"photos.tar/{name}" for name in names]  # and not the links
    before = set(tmp_path.rglob("*"))
    store = ResultStore(str(tmp_path / "out"))
    store.check_settings({})
    store.write(shard["name"], rows, {0: "../a"})
    new = set(tmp_path.rglob("*")) - before - {tmp_path / "out"}
    assert new == {tmp_path / "out" / "settings.json", tmp_path / "out" / f"{shard['name']}.parquet"}


def test_links_of_a_folder_are_not_published(decided_folder, tmp_path):
    secret, model, export = tmp_path / "secret.txt", tmp_path / "model", tmp_path / "export"
    secret.write_text("secret")
    shutil.copytree(decided_folder, model)
    card = {"license": "apache-2.0", "library_name": "transformers", "pipeline_tag": "image-segmentation"}
    (model / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n# A model\n")
    (model / "LICENSE.txt").symlink_to(secret)
    (tmp_path / "staged").mkdir()
    with pytest.raises(ValueError, match=re.escape(str(model / "LICENSE.txt"))):
        stage_folder(model, tmp_path / "staged", "user/model")
    shutil.copytree(decided_folder, export)
    (export / "export.json").write_text('{"format": "onnx"}')
    (export / "model.onnx").symlink_to(secret)
    (tmp_path / "target").mkdir()
    id2label = CGRSegConfig.from_pretrained(decided_folder).id2label
    with pytest.raises(ValueError, match=re.escape(str(export / "model.onnx"))):
        stage_export(export, tmp_path / "target", dict(id2label))
    assert not list((tmp_path / "target").rglob("model.onnx"))


# Addresses in files


@pytest.fixture
def listener() -> Iterator[str]:
    """The address of a web server, which no test may ask."""
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
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
    assert asked == []


@pytest.mark.parametrize(
    "path", ["HTTP/a.png", "simplecache::HTTP/a.png", "zip://a.png::HTTP/a.zip", "ssh://127.0.0.1/a.png"]
)
def test_rows_of_tables_lead_to_no_address(path, listener, tmp_path):
    path = path.replace("HTTP", listener)
    value = pa.array([{"bytes": None, "path": path}], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    data = write_and_load(pa.table({"image": value, "label": value}), tmp_path / "table")
    with pytest.raises(ValueError, match=re.escape(path)):
        data.read(data.rows[0])


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nHTTP/a.ts\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nREAL\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["HLS", "HLS of a file", "SDP"],
)
def test_play_lists_are_no_videos(text, listener, tmp_path):
    pytest.importorskip("av")
    from cgrseg_hf.inference import Video, VideoWriter

    real, file = tmp_path / "real.mp4", tmp_path / "list.mp4"
    with VideoWriter(real, Fraction(25)) as video:
        video.write(np.zeros((48, 64, 3), dtype=np.uint8))
    assert len(list(Video(real))) == 1
    file.write_text(text.replace("HTTP", listener).replace("REAL", str(real)))
    with pytest.raises(ValueError, match=r"list\.mp4"):
        list(Video(file))
