# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever is passed for a picture, a mask or an array: the right answer, or one clear error that says what to do."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
import torch
from corpus import Case, Corpus, decode, make_arrays, make_masks, make_pictures
from evidence import Evidence
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from transformers import pipeline
from transformers.image_utils import load_image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegImageProcessorPil
from cgrseg_hf.data import SegmentationData, check_data
from cgrseg_hf.data.label_mapping import LabelMapping
from cgrseg_hf.demo.errors import DemoError
from cgrseg_hf.demo.models import DemoModel
from cgrseg_hf.demo.session import Limits, PhotoDesk
from cgrseg_hf.evaluation import evaluate_model
from cgrseg_hf.inference import Segmenter, UnreadablePictureError

SIZE = {"shortest_edge": 96, "longest_edge": 400}
ID2LABEL = {index: f"class {index}" for index in range(corpus.NUM_CLASSES)}

# What an error tells people to do.
REMEDY = re.compile(
    r"\b(check|convert|download|give|install|leave (it )?out|look up|make|map|pass|pick|rename|replace|resize|scale|"
    r"set|take|try|turn|use|write|choose)\b",
    re.IGNORECASE,
)
# A progress bar's line.
_BAR = re.compile(r"^\s*(\w+: +)?\d+%\|")
# Windows are slow on the longest pictures, and show nothing else there than elsewhere.
_LONGEST_IN_WINDOWS = 4000
_WEB_PAGE = Limits()
_OF_THE_WEB_PAGE = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


@dataclass
class Outcomes:
    """What came of each file, by kind of trouble and entry point."""

    counts: dict[str, dict[str, Counter]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))
    wrong: list[str] = field(default_factory=list)

    def note(self, kind: str, entry: str, name: str, outcome: str) -> None:
        """Count an outcome, "right" or "refused"; any other says what was wrong."""
        if outcome in ("right", "refused"):
            self.counts[kind][entry][outcome] += 1
        else:
            self.counts[kind][entry]["wrong"] += 1
            self.wrong.append(f"{kind}, {name!r}, {entry}: {outcome}")

    def total(self, outcome: str) -> int:
        """How many of one kind there are."""
        return sum(counts[outcome] for entries in self.counts.values() for counts in entries.values())


def judge(
    run: Callable[[], Any],
    is_right: Callable[[Any], bool] | None,
    is_clear: Callable[[Exception], str | None],
    may_be_refused: bool = False,
) -> str:
    """
    What came of one input: "right", "refused", or what was wrong.

    Args:
        run (`Callable`): Passes the input on.
        is_right (`Callable`, *optional*): Whether an answer is right; without it, there must be none.
        is_clear (`Callable`): What an error lacks, `None` if nothing.
        may_be_refused (`bool`, *optional*, defaults to `False`): Whether an error will do where there is an answer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, on what is broken
            warnings.simplefilter("error", RuntimeWarning)  # NumPy's, on values that are lost
            answer = run()
    except Exception as error:
        if is_right is not None and not may_be_refused:
            return f"refused, but it can be read ({type(error).__name__}: {error})"
        lack = is_clear(error)
        return "refused" if lack is None else f"{lack} ({type(error).__name__}: {error})"
    if is_right is None:
        return "answered, but there is nothing to be seen"
    return "right" if is_right(answer) else "wrong answer"


def names(
    path: Path, kinds: tuple[type[Exception], ...] = (ValueError,), remedy: bool = True
) -> Callable[[Exception], str | None]:
    """What an error about a file lacks: its kind, one line, the file's name, and what to do."""

    def find_lack(error: Exception) -> str | None:
        if not isinstance(error, kinds):
            return "an error of another kind"
        return lacks(str(error), path, remedy)

    return find_lack


def lacks(message: str, path: Path, remedy: bool = True) -> str | None:
    """What a message about a file lacks, `None` if nothing."""
    if "\n" in message:
        return "an error of several lines"
    if not any(name in message for name in (path.name, printable(path.name), repr(path.name)[1:-1])):
        return "an error that does not name the file"
    if not message.isprintable():
        return "an error that a terminal would not print as it is"
    return "an error without a remedy" if remedy and not REMEDY.search(message) else None


def printable(name: str) -> str:
    """A name as messages show it."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in name)


def describes(error: Exception) -> str | None:
    """What an error about an array lacks."""
    if not isinstance(error, ValueError | TypeError):
        return "an error of another kind"
    return None if REMEDY.search(str(error)) else "an error without a remedy"


class Machine:
    """
    One model behind every entry point, and what it should say.

    Args:
        model ([`CGRSegForSemanticSegmentation`]): The model.
        folder (`Path`): The same in a folder.
    """

    def __init__(self, model: CGRSegForSemanticSegmentation, folder: Path):
        self.model = model
        self.processors = [CGRSegImageProcessor(size=SIZE), CGRSegImageProcessorPil(size=SIZE)]
        self.segmenter = Segmenter.from_pretrained(folder, "torch")
        self.limited_segmenter = Segmenter.from_pretrained(folder, "torch", max_pixels=corpus.MAX_PIXELS)
        self.demo = DemoModel("demo", self.segmenter)
        self.desk = PhotoDesk(_WEB_PAGE)
        self.pipeline = pipeline("image-segmentation", model=str(folder), device="cpu")

    def label(self, pixels: np.ndarray) -> np.ndarray:
        """The classes of an RGB array `(height, width, 3)`, by the model as transformers runs it."""
        batch = self.processors[0](pixels, input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            outputs = self.model(**batch)
        return self.processors[0].post_process_semantic_segmentation(outputs, [pixels.shape[:2]])[0].numpy()

    def prepare(self, pixels: np.ndarray, processor: Any) -> torch.Tensor:
        """What the network gets of an RGB array."""
        return processor(pixels, input_data_format="channels_last", return_tensors="pt").pixel_values

    def by_pipeline(self, path: Path) -> np.ndarray:
        """The classes that the pipeline's masks make up."""
        parts = self.pipeline(str(path))
        label_map = np.full(parts[0]["mask"].size[::-1], -1)
        for part in parts:
            label_map[np.asarray(part["mask"]) > 0] = self.model.config.label2id[part["label"]]
        return label_map

    def pairs(self, image: Path, annotation: Path) -> SegmentationData:
        """A data set of one pair."""
        files = {"image": {"path": str(image), "bytes": None}, "annotation": {"path": str(annotation), "bytes": None}}
        row = {**files, "name": image.name}
        return SegmentationData([row], ID2LABEL, None, LabelMapping.identity(len(ID2LABEL)), "one pair")


@pytest.fixture(scope="module")
def machine(decided_model, decided_folder) -> Machine:
    return Machine(decided_model, decided_folder)


def same(expected: np.ndarray) -> Callable[[Any], bool]:
    """Whether a label map is this one."""
    return lambda answer: np.array_equal(getattr(answer, "label_map", answer), expected)


def look_at_picture(machine: Machine, case: Case, mask: Path, outcomes: Outcomes, everywhere: bool = True) -> None:
    """
    Pass a file to every entry point that runs in this process.

    Args:
        machine ([`Machine`]): The entry points.
        case (`Case`): The file.
        mask (`Path`): A file for a mask of its size.
        outcomes ([`Outcomes`]): Takes what came of it.
        everywhere (`bool`, *optional*, defaults to `True`): Otherwise only to the Segmenter, the image processors and
            check-data.
    """
    path, pixels = case.path, decode(case.path)
    if case.expected != "as decoded":
        assert (pixels is not None) == (case.expected == "right"), f"{case} is not what it is called"
    expected = None if pixels is None else machine.label(pixels)
    is_right = None if pixels is None else same(expected)

    def note(entry: str, *arguments: Any) -> None:
        outcomes.note(case.kind, entry, case.name, judge(*arguments))

    note("Segmenter", lambda: machine.segmenter(path), is_right, names(path, (UnreadablePictureError,)))
    for processor in machine.processors:
        wanted = None if pixels is None else machine.prepare(pixels, processor)
        note(
            "image processors",
            lambda processor=processor: processor(str(path), return_tensors="pt").pixel_values,
            None if wanted is None else lambda answer, wanted=wanted: torch.equal(answer, wanted),
            # An error of the system says what it is, and there is nothing to add.
            lambda error: names(path, (ValueError, OSError), not isinstance(error, OSError))(error),
        )
    Image.fromarray(np.uint8([[0]]) if pixels is None else expected.astype(np.uint8)).save(mask)
    data = machine.pairs(path, mask)
    outcomes.note(case.kind, "check-data", case.name, judge_check(lambda: check_data(data, show_progress=False), path, pixels is not None))
    if not everywhere:
        return
    note(
        "evaluate",
        lambda: evaluate_model(machine.model, machine.processors[0], data, progress=False).confusion_matrix,
        None if pixels is None else lambda matrix: matrix.trace() == matrix.sum() == expected.size,
        names(path),
    )
    if pixels is None or max(pixels.shape) <= _LONGEST_IN_WINDOWS:
        windows = {"tile": 64, "overlap": 16}
        wanted = None if pixels is None else same(machine.segmenter(pixels, **windows).label_map)
        # Not all TIFF files that can be decoded can be read part by part.
        is_tiff = path.suffix in (".tif", ".tiff")
        clear = names(path, (UnreadablePictureError,))
        note("windows", lambda: machine.limited_segmenter(path, **windows), wanted, clear, is_tiff)
    is_small = pixels is not None and pixels.shape[0] * pixels.shape[1] <= _WEB_PAGE.max_pixels
    note(
        "web page",
        lambda: machine.desk.segment(path, machine.demo).segmentation,
        is_right if is_small else None,
        names(path, (DemoError,)),
        pixels is not None and Image.open(path).format not in _OF_THE_WEB_PAGE,
    )
    look_at_pipeline(machine, case, outcomes)


def judge_check(run: Callable[[], Any], path: Path, is_good: bool) -> str:
    """What came of a check of one pair: an error there is a finding."""
    outcome = judge(run, lambda check: bool(check.errors) != is_good, names(path))
    if outcome != "right" or is_good:
        return "a finding where there is nothing wrong" if outcome == "wrong answer" and is_good else outcome
    return lacks(str(run().errors[0]), path) or "refused"


def look_at_pipeline(machine: Machine, case: Case, outcomes: Outcomes) -> None:
    """Pass a file to transformers' pipeline, which opens it by itself."""
    if not case.path.is_file():  # whose name it takes for base64
        outcome = judge(lambda: machine.by_pipeline(case.path), None, lambda _: None)
    else:
        try:
            loaded = np.asarray(load_image(str(case.path)))
        except Exception:
            loaded = None
        outcome = judge(
            lambda: machine.by_pipeline(case.path),
            None if loaded is None else same(machine.label(loaded)),
            lambda _: None,  # its own words
        )
    outcomes.note(case.kind, "pipeline", case.name, outcome)


@pytest.mark.reliability
def test_dev(machine, photos, tmp_path):
    outcomes=Outcomes()
    import os
    for case in make_pictures(tmp_path / "pictures", photos):
        if case.name=="locked.jpg": continue
        t=time.time()
        look_at_picture(machine, case, tmp_path / "mask.png", outcomes, not os.environ.get("LESS"))
        if time.time()-t>2: print("slow", case.name, time.time()-t)
    for kind, entries in outcomes.counts.items():
        print(kind, {k:dict(v) for k,v in entries.items()})
    print("\n".join(outcomes.wrong))
