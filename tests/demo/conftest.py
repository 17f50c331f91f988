# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A tiny model for the page, which counts how often its network runs; and a Hub that takes its time."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf.demo.limits import Limits
from cgrseg_hf.demo.models import DemoModel, load_model
from cgrseg_hf.demo.session import PhotoDesk
from cgrseg_hf.inference import Engine


class CountingEngine(Engine):
    """Another engine that counts its calls, and lets them wait at a gate if there is one."""

    def __init__(self, engine: Engine):
        self.engine = engine
        self.config, self.device, self.dtype, self.name = engine.config, engine.device, engine.dtype, engine.name
        self.num_calls = 0
        self.gate: threading.Event | None = None

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        if self.gate is not None:
            self.gate.wait()
        return self.engine(pixel_values)


class SlowHub(ThreadingHTTPServer):
    """A Hub that has no models, and says so only once its gate is open."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _SlowAnswer)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.gate = threading.Event()
        self.asked: list[str] = []


class _SlowAnswer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.gate.wait()
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def slow_hub() -> Iterator[SlowHub]:
    with SlowHub() as hub:
        threading.Thread(target=hub.serve_forever).start()
        yield hub
        hub.gate.set()
        hub.shutdown()


@pytest.fixture
def model(decided_folder) -> DemoModel:
    model = load_model(str(decided_folder), engine="torch")
    model.segmenter.engine = CountingEngine(model.segmenter.engine)
    return model


@pytest.fixture
def make_desk() -> Callable[..., PhotoDesk]:
    def make(max_pixels: int = 1_000_000, seconds: float = 60.0) -> PhotoDesk:
        return PhotoDesk(Limits(max_pixels, seconds))

    return make


@pytest.fixture
def save_photo(tmp_path) -> Callable[..., Path]:
    """Save a picture with soft colours."""

    def save(name: str = "street.png", width: int = 121, height: int = 87, **settings) -> Path:
        coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(tmp_path / name, **settings)
        return tmp_path / name

    return save
