# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Many at a time: threads that share Segmenters, and visitors of the page. Each answer is what one alone gets."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.page_process import start_page
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.inference import Segmenter

CLIENTS = 16
# Width and height of the photos. Several come to one size in the network, others do not.
SIZES = ((120, 90), (90, 120), (96, 96), (131, 77), (64, 200), (33, 40))
# A queue shorter than the clients are many.
QUEUE_SIZE = 4


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


def label_maps(segmenter: Segmenter, photos: list, **settings) -> list[np.ndarray]:
    return [one.label_map for one in segmenter(photos, **settings)]


def list_cases(segmenters: list[Segmenter], files: list[Path]) -> list[Callable[[], list[np.ndarray]]]:
    """Photos alone, in batches and in windows, from files and from memory."""
    arrays = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    cases = [partial(label_maps, segmenters[0], [arrays[1]], tile=64)]
    for segmenter in segmenters:
        cases += [partial(label_maps, segmenter, [photo]) for photo in (*files, *arrays)]
        cases.append(partial(label_maps, segmenter, arrays, batch_size=3))
    return cases


def test_threads_share_segmenters(decided_folder, other_folder, photo_files):
    segmenters = [
        Segmenter.from_pretrained(decided_folder, "torch", "cpu", num_threads_reading=2),
        Segmenter.from_pretrained(other_folder, "torch", "cpu", max_pixels=1_000_000),
    ]
    cases = [(case, case()) for case in list_cases(segmenters, photo_files)]
    together = threading.Barrier(CLIENTS)

    def ask(client: int) -> None:
        together.wait()
        for case, expected in random.Random(client).sample(cases, 10):
            for answer, wanted in zip(case(), expected, strict=True):
                np.testing.assert_array_equal(answer, wanted)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(CLIENTS)))


@pytest.mark.long
def test_visitors_share_the_page(decided_folder, other_folder, photo_files, tmp_path):
    pytest.importorskip("gradio_client")
    from gradio_client import handle_file
    from gradio_client.utils import QueueError

    folders = {one.name: one for one in (decided_folder, other_folder)}
    expected = {
        (name, file): Segmenter.from_pretrained(folder, "torch", "cpu")(file).label_map
        for name, folder in folders.items()
        for file in photo_files
    }
    arguments = [text for folder in folders.values() for text in ("--model", str(folder))]
    refusals = []

    def visit(client: int) -> None:
        visitor = page.connect(tmp_path / f"downloads{client}")

        def ask(*inputs, api_name: str):
            while True:
                try:
                    return visitor.predict(*inputs, api_name=api_name)
                except QueueError:
                    refusals.append(client)
                    time.sleep(0.1)

        for model, file in random.Random(client).sample(list(expected), 3):
            _, _, _, label_map, *_ = ask(handle_file(file), model, 55, api_name="/segment")
            with Image.open(label_map) as saved:
                np.testing.assert_array_equal(np.asarray(saved), expected[model, file])
            # The size of another overlay tells whose photo is remembered.
            with Image.open(ask(20, api_name="/draw_overlay")) as overlay:
                assert overlay.size == expected[model, file].shape[::-1]

    with start_page(tmp_path, *arguments, "--concurrency", "2", "--queue-size", str(QUEUE_SIZE)) as page:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(visit, range(CLIENTS)))
        assert page.process.poll() is None
    assert refusals
