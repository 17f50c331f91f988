# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Many at a time: threads that share Segmenters, and visitors of the page. Each answer is what one alone gets."""

import itertools
import json
import os
import random
import re
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.page_process import Page, start_page
from load import Load, Outcome, put_load
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.inference import Segmenter, UnreadableImageError
from cgrseg_hf.utils.optional import find_missing_packages

CLIENTS = 64
LONG = 600.0  # seconds of each long run
QUICK = 2.0

# Width and height of the photos. Several come to one size in the network, others do not.
SIZES = ((120, 90), (90, 120), (96, 96), (131, 77), (64, 200), (200, 64), (150, 150), (33, 40))
# What Pillow's guard is set to, so that some of the photos are above it.
GUARD = 10_000
# A queue shorter than the clients are many.
QUEUE_SIZE = 16
# Answers after which a visitor comes back as another one. The page remembers a hundred, and says so to the others: in
# ten minutes more than that come, but no visitor is forgotten between a photo and the question about its pixel.
PHOTOS_OF_A_VISIT = 10


@pytest.fixture(scope="module")
def photo_files(tmp_path_factory) -> list[Path]:
    """Photos with soft colours, in files of several formats."""
    folder = tmp_path_factory.mktemp("photos")
    files = []
    for index, (width, height) in enumerate(SIZES):
        coarse = np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        files.append(folder / f"photo{index}.{('jpg', 'png', 'webp')[index % 3]}")
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(files[-1])
    return files


@pytest.fixture(scope="module")
def other_folder(tiny_config, tmp_path_factory) -> Path:
    """Another tiny model, with more classes, another size of photos, and clear decisions too."""
    folder = tmp_path_factory.mktemp("models") / "other"
    torch.manual_seed(1)
    model = CGRSegForSemanticSegmentation(tiny_config(9)).eval()
    torch.nn.init.normal_(model.head.classifier.weight, std=3.0)
    model.save_pretrained(folder)
    CGRSegImageProcessor(size={"height": 64, "width": 96}).save_pretrained(folder)
    return folder


@pytest.fixture
def segmenters(decided_folder, other_folder) -> list[Segmenter]:
    """Two models, and one of them once more with a limit above Pillow's guard."""
    return [
        Segmenter.from_pretrained(decided_folder, "torch", "cpu"),
        Segmenter.from_pretrained(other_folder, "torch", "cpu", max_pixels=1_000_000),
        Segmenter.from_pretrained(decided_folder, "torch", "cpu", max_pixels=1_000_000, num_threads_reading=2),
    ]


@dataclass
class Case:
    """A way to ask, and what somebody who asks alone gets."""

    ask: Callable[[], list[np.ndarray]]
    expected: list[np.ndarray] | None = None


def list_cases(segmenters: list[Segmenter], photo_files: list[Path]) -> list[Case]:
    """Photos alone, in lists and in windows, from files and from memory."""
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in photo_files]

    def ask_for_one(segmenter: Segmenter, photo: Path | np.ndarray, **settings) -> list[np.ndarray]:
        segmentation = segmenter(photo, **settings)
        kept = (segmentation.logits, segmentation.entropy)
        return [segmentation.label_map, *(np.asarray(one) for one in kept if one is not None)]

    def ask_for_some(segmenter: Segmenter, photos: list, batch_size: int) -> list[np.ndarray]:
        return [one.label_map for one in segmenter(photos, batch_size=batch_size)]

    def ask_for_too_much(segmenter: Segmenter, photo: Path | np.ndarray) -> list[np.ndarray]:
        with pytest.raises(UnreadableImageError, match="more than max_pixels"):
            segmenter(photo)
        return []

    cases = []
    for segmenter in segmenters:
        limit = segmenter.max_pixels or GUARD
        for file, array in zip(photo_files, arrays):
            if array.shape[0] * array.shape[1] <= limit:
                cases.append(Case(lambda s=segmenter, p=array: ask_for_one(s, p, return_logits=True)))
                cases.append(Case(lambda s=segmenter, p=file: ask_for_one(s, p, return_entropy=True)))
            else:
                cases += [Case(lambda s=segmenter, p=photo: ask_for_too_much(s, p)) for photo in (file, array)]
        allowed = [one for one in arrays if one.shape[0] * one.shape[1] <= limit]
        cases.append(Case(lambda s=segmenter, p=allowed: ask_for_some(s, p, 3)))
        if segmenter.image_processor.size.shortest_edge:
            cases.append(Case(lambda s=segmenter: ask_for_one(s, arrays[1], tile=64)))
    return cases


def load_segmenters(
    segmenters: list[Segmenter], photo_files: list[Path], clients: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> Load:
    cases = list_cases(segmenters, photo_files)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GUARD)
    for case in cases:
        case.expected = case.ask()

    def ask(client: int, choices: random.Random) -> Outcome:
        case = choices.choice(cases)
        answer = case.ask()
        is_right = len(answer) == len(case.expected) and all(map(_is_equal, answer, case.expected))
        return "right" if is_right else "wrong"

    load = put_load(f"Segmenter ({len(segmenters)} shared by all threads)", ask, clients, seconds, os.getpid())
    assert Image.MAX_IMAGE_PIXELS == GUARD
    monkeypatch.undo()
    return load


def _is_equal(answer: np.ndarray, expected: np.ndarray) -> bool:
    """Whether labels are the same, and numbers but for rounding: engines choose kernels by what came before."""
    if answer.shape != expected.shape or answer.dtype != expected.dtype:
        return False
    return np.array_equal(answer, expected) if answer.dtype.kind != "f" else np.allclose(answer, expected, 1e-3, 1e-3)


class Visitor:
    """
    Somebody at the page: uploads photos, asks for their classes, downloads the label map and asks about a pixel.

    Args:
        page ([`Page`]): The page.
        models (`dict[str, Segmenter]`): The page's models by name, for what they say of each photo when asked alone.
    """

    def __init__(self, page: Page, models: dict[str, Segmenter], photo_files: list[Path]):
        self.page = page
        self.photos = photo_files
        self.expected = {
            (name, file): segmenter(file) for (name, segmenter), file in itertools.product(models.items(), photo_files)
        }
        self.models = list(models)
        self.functions = {target: page.find_function(target) for target in ("photo.change", "ask.click")}
        self.refusals: set[str] = set()
        self.wrong: list[str] = []  # what wrong answers said
        self._visits: dict[int, tuple[str, int]] = {}

    def __call__(self, client: int, choices: random.Random) -> Outcome:
        """Ask about one photo."""
        session, count = self._visits.get(client, ("", PHOTOS_OF_A_VISIT))
        if count == PHOTOS_OF_A_VISIT:
            session, count = uuid.uuid4().hex, 0
        model, file = choices.choice(self.models), choices.choice(self.photos)
        expected = self.expected[model, file]
        photo = {"path": self.page.upload(file), "meta": {"_type": "gradio.FileData"}}
        answer = self._ask("photo.change", [photo, model, "", 55], session)
        if answer is None:
            time.sleep(choices.uniform(0.05, 0.5))
            return "refused"
        self._visits[client] = session, count + 1
        height, width = expected.size
        if f"{width} × {height} pixels" not in answer[0]:
            return self._is_wrong(answer[0])
        address = re.search(r"/gradio_api/file=.*", answer[-1]["value"]["url"])[0]
        with Image.open(BytesIO(self.page.get(address)[1])) as label_map:
            if not np.array_equal(np.asarray(label_map), expected.label_map):
                return self._is_wrong("another label map")

        # whose photo is remembered shows in the answer about a pixel of it
        x, y = choices.randrange(width), choices.randrange(height)
        while (answer := self._ask("ask.click", [None, 55, x, y], session)) is None:
            time.sleep(choices.uniform(0.05, 0.5))
        name = expected.id2label[int(expected.label_map[y, x])]
        said = unescape(re.sub("<[^>]*>", "", answer[0]))
        return "right" if f"Pixel ({x}, {y}): {name}, " in said else self._is_wrong(said)

    def _is_wrong(self, said: str) -> Outcome:
        self.wrong.append(said)
        return "wrong"

    def _ask(self, target: str, data: list, session: str) -> list | None:
        try:
            answer = self.page.ask(self.functions[target], data, session)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            self.refusals.add(json.loads(error.read())["detail"])
            return None
        assert answer["success"], answer
        return answer["output"]["data"]


def load_page(
    decided_folder: Path, other_folder: Path, photo_files: list[Path], folder: Path, clients: int, seconds: float
) -> tuple[Load, set[str]]:
    arguments = ["--model", str(decided_folder), "--model", str(other_folder), "--concurrency", "2"]
    models = {one.name: Segmenter.from_pretrained(one, "torch", "cpu") for one in (decided_folder, other_folder)}
    with start_page(folder, *arguments, "--queue-size", str(QUEUE_SIZE)) as page:
        visitor = Visitor(page, models, photo_files)
        load = put_load("Page (`cgrseg demo`, 2 photos at a time)", visitor, clients, seconds, page.process.pid)
        assert page.process.poll() is None
    load.said_wrong += visitor.wrong
    return load, visitor.refusals


def test_threads_share_segmenters(segmenters, photo_files, monkeypatch):
    load = load_segmenters(segmenters, photo_files, 16, QUICK, monkeypatch)
    assert load.errors == [] and load.failures == 0
    assert load.outcomes["right"] > 16


@pytest.mark.long
def test_visitors_share_the_page(decided_folder, other_folder, photo_files, tmp_path):
    load, refusals = load_page(decided_folder, other_folder, photo_files, tmp_path, CLIENTS, 5 * QUICK)
    assert load.errors == [] and load.said_wrong == [] and load.failures == 0
    assert load.outcomes["right"] > 0 and load.outcomes["refused"] > 0
    assert refusals == {f"Queue is full. Max size is {QUEUE_SIZE} and size is {QUEUE_SIZE}."}


@pytest.mark.reliability
def test_ten_minutes_each(segmenters, decided_folder, other_folder, photo_files, exported, tmp_path, monkeypatch):
    for name, package in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        if not find_missing_packages([package]):
            segmenters.append(Segmenter.from_pretrained(exported(name).folder))
    of_segmenters = load_segmenters(segmenters, photo_files, CLIENTS, LONG, monkeypatch)
    of_page, refusals = load_page(decided_folder, other_folder, photo_files, tmp_path, CLIENTS, LONG)
    assert refusals == {f"Queue is full. Max size is {QUEUE_SIZE} and size is {QUEUE_SIZE}."}
    for load in (of_segmenters, of_page):
        print(*load.to_row(), sep=" | ", flush=True)
        assert load.errors == [] and load.said_wrong == [] and load.failures == 0
        assert load.is_memory_bounded, f"{load.name} takes more and more memory: {load.memory}"
