# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The page without a browser: what it draws, and the real command as Gradio's client sees it."""

import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from helpers.page_process import PACKAGE_PARENT, Page, start_page
from PIL import Image

from cgrseg_hf.demo import EXAMPLES, PhotoDesk, View, find_port
from cgrseg_hf.engines.engine import Engine
from cgrseg_hf.inference import Segmenter

MAX_PIXELS = 400_000


class CountingEngine(Engine):
    """Another engine that counts its calls."""

    def __init__(self, engine: Engine):
        self.engine, self.num_calls = engine, 0
        self.config, self.device, self.dtype, self.name = engine.config, engine.device, engine.dtype, engine.name

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        return self.engine(pixel_values)


@pytest.fixture
def segmenter(decided_folder) -> Segmenter:
    return Segmenter.from_pretrained(decided_folder, "torch", "cpu")


@pytest.fixture
def street(photos) -> Path:
    return photos / "000000015517.jpg"


@pytest.fixture(scope="module")
def page(decided_folder, tmp_path_factory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    other = shutil.copytree(decided_folder, folder / "other")
    arguments = ["--model", str(decided_folder), "--model", str(other), "--max-pixels", str(MAX_PIXELS)]
    with start_page(folder, *arguments) as page:
        yield page


@pytest.fixture
def segment(page, tmp_path):
    """Ask the page for the classes of a photo, as a visitor of its own."""
    from gradio_client import handle_file

    client = page.connect(tmp_path / "downloads")

    def segment(photo: Path, model: str = "other") -> tuple:
        return client.predict(handle_file(photo), model, 55, api_name="/segment")

    segment.client = client
    return segment


def test_the_network_runs_once_for_all_views(segmenter, street):
    segmenter.engine = CountingEngine(segmenter.engine)
    view = View.from_photo(segmenter, street)
    pixels = np.asarray(Image.open(street).convert("RGB"), dtype=int)
    faint, strong = (
        np.abs(np.asarray(view.draw_overlay(opacity), dtype=int) - pixels).mean() for opacity in (0.1, 0.9)
    )
    assert faint < strong / 2
    assert view.draw_heat_map(2).height >= 480
    view.compute_scores(3, 4)
    assert segmenter.engine.num_calls == 1


def test_large_photos_are_shown_smaller(segmenter, tmp_path):
    Image.linear_gradient("L").resize((3000, 500)).save(tmp_path / "wide.png")
    view = View.from_photo(segmenter, tmp_path / "wide.png")
    assert view.draw_overlay(0.5).size == (1000, 167)
    assert view.find_pixel(999, 100) == (2997, 300)
    assert view.segmentation.size == (500, 3000)


def test_scores_of_a_pixel(segmenter, street):
    view = View.from_photo(segmenter, street)
    expected = torch.from_numpy(segmenter(street, return_scores=True).scores[:, 12, 77]).softmax(dim=0)
    scores = view.compute_scores(77, 12)
    assert [scores[name] for name in segmenter.id2label.values()] == pytest.approx(expected.tolist(), abs=1e-4)


def test_what_cannot_be_answered_is_said(segmenter, street, tmp_path):
    gradio = pytest.importorskip("gradio")
    desk = PhotoDesk({"tiny": segmenter}, tmp_path, time_limit=0.001, concurrency=1)
    with pytest.raises(gradio.Error, match=r"0\.001 seconds"):
        desk.segment(str(street), "tiny")
    with pytest.raises(gradio.Error, match="choose it again"):
        desk.look_up(None, 1, 2)
    with pytest.raises(gradio.Error, match=r"^'a&lt;b&gt;\.jpg"):  # Gradio shows errors as HTML
        PhotoDesk({"tiny": segmenter}, tmp_path, 60, 1).segment(str(tmp_path / "a<b>.jpg"), "tiny")


def test_example_photos_name_their_sources():
    sources = json.loads((EXAMPLES / "sources.json").read_text())
    assert {one["file"] for one in sources} == {file.name for file in EXAMPLES.glob("*.jpg")}
    assert all(one["source"] and one["license"] == "CC BY 2.0" for one in sources)


def test_a_visit(segment, segmenter, street, decided_folder):
    expected = segmenter(street)
    for model in (decided_folder.name, "other"):
        overlay, _, table, label_map, *_ = segment(street, model)
        assert [name for _, name, _ in table["data"]] == list(expected.area_shares)
        assert table["data"][0][2] == f"{max(expected.area_shares.values()):.1%}"
        assert Path(label_map).name == f"{street.stem}_classes.png"
        with Image.open(label_map) as saved:
            assert saved.mode == "P"
            np.testing.assert_array_equal(np.asarray(saved), expected.label_map)
    with Image.open(overlay) as shown, Image.open(segment.client.predict(0, api_name="/draw_overlay")) as faint:
        assert shown.size == faint.size == (640, 480)
        assert np.abs(np.asarray(shown, dtype=int) - np.asarray(faint)).mean() > 10


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG of any size: whoever decodes it finds no pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.jpg", b"no picture", "JPEG, PNG"),
        ("program.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "JPEG, PNG"),
        ("half.jpg", None, "damaged"),
        ("wide.png", png_header(1000, 401), "401,000"),
        ("bomb.png", png_header(60_000, 60_000), "400,000"),
    ],
)
def test_wrong_files_are_refused_in_words(segment, street, tmp_path, name, content, message):
    from gradio_client.exceptions import AppError

    (tmp_path / name).write_bytes(street.read_bytes()[:9000] if content is None else content)
    with pytest.raises(AppError, match=message) as refused:
        segment(tmp_path / name)
    assert str(refused.value).startswith(name)


def ask(address: str, data: dict | None = None) -> tuple[int, bytes]:
    """Status and content of an answer."""
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_only_uploaded_photos_are_opened(page, street):
    linked = page.temporary / "linked.jpg"
    linked.symlink_to(street)
    for file in ({"path": str(street)}, {"path": str(linked)}, {"path": "x", "url": "http://127.0.0.1:1/a.jpg"}):
        call = f"{page.address}/gradio_api/call/segment"
        event = ask(call, {"data": [{"meta": {"_type": "gradio.FileData"}, **file}, "other", 55]})[1]
        answer = ask(f"{call}/{json.loads(event)['event_id']}")[1]
        assert answer.startswith(b"event: error") and b"Share" not in answer, file


def test_what_the_server_gives_out(page, decided_folder):
    content = ask(page.address)[1]
    config = json.loads(ask(f"{page.address}/config")[1])
    assert config["analytics_enabled"] is False
    assert str(decided_folder).encode() not in content  # visitors do not learn where files are
    (folder,) = page.temporary.glob("cgrseg-demo-*")
    (folder / "link.json").symlink_to(decided_folder / "config.json")
    source = PACKAGE_PARENT / "cgrseg_hf" / "demo.py"
    for path in (source, f"{folder}/../../../..{source}", decided_folder / "config.json", folder / "link.json"):
        assert ask(f"{page.address}/gradio_api/file={path}")[0] in (403, 404), path


def test_addresses_that_cannot_be_used(page, decided_folder):
    port = urlsplit(page.address).port
    command = [sys.executable, "-m", "cgrseg_hf", "demo", "--model", str(decided_folder), "--port", str(port)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 1
    assert f"127.0.0.1, port {port}" in refused.stderr and "Traceback" not in refused.stderr
    with pytest.raises(OSError, match=r"192\.0\.2\.1, port 0"):
        find_port("192.0.2.1", 0)  # of no computer, by RFC 5737


@pytest.mark.long
def test_nothing_is_left_behind(decided_folder, tmp_path):
    with start_page(tmp_path, "--model", str(decided_folder)) as page:
        assert list(page.temporary.glob("cgrseg-demo-*"))
        page.process.send_signal(signal.SIGTERM)
        assert page.process.wait(timeout=60) == 128 + signal.SIGTERM
        assert not list(page.temporary.glob("cgrseg-demo-*"))
        with socket.socket() as connection:
            assert connection.connect_ex(("127.0.0.1", urlsplit(page.address).port))


def test_the_extra_is_named_where_gradio_is_missing():
    code = (
        "import sys; sys.modules['gradio'] = None; sys.argv[1:] = ['demo']\n"
        "import cgrseg_hf.demo\n"
        "from cgrseg_hf.commands.main import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert 'pip install "cgrseg_hf[demo]"' in ended.stderr and "Traceback" not in ended.stderr
