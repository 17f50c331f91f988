# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Whatever is passed for a picture, a mask or an array: the right answer, or one clear error that says what to do."""

import copy
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import corpus
import numpy as np
import pytest
import torch
from corpus import ArrayCase, Case, Corpus, decode, make_arrays, make_masks, make_pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from transformers import pipeline
from transformers.image_utils import load_image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegImageProcessorPil
from cgrseg_hf.data import SegmentationData, check_data
from cgrseg_hf.data.label_mapping import LabelMapping
from cgrseg_hf.evaluation import evaluate_model
from cgrseg_hf.inference import Segmenter, UnreadableImageError
from cgrseg_hf.model.image_formats_cgrseg import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

SIZE = {"shortest_edge": 64, "longest_edge": 256}
ID2LABEL = {index: f"class {index}" for index in range(corpus.NUM_CLASSES)}

# What an error tells people to do.
REMEDY = re.compile(
    r"\b(check|convert|download|give|install|leave (it )?out|look up|make|map|pass|pick|rename|replace|resize|scale|"
    r"set|take|try|turn|use|write|choose)\b",
    re.IGNORECASE,
)
# A progress bar's line.
_BAR = re.compile(r"^\s*([\w ]+: +)?\d+%\|")
# Windows of longer pictures take long, and show nothing else there.
_LONGEST_IN_WINDOWS = 200
_LARGEST_IN_WINDOWS = 50_000  # bytes
# libtiff's own words on broken files, which Pillow lets through.
_LIBTIFF = re.compile(r"(tempfile\.tif|[A-Z]\w+): \w")
# Above what the model and the largest picture take; a decoded bomb takes 3,600 more.
_MOST_MEBIBYTES = 3000
_NUM_FUZZED = 800


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
            logger.error("%s", self.wrong[-1])

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
        self.folder = folder
        self.processors = [CGRSegImageProcessor(size=SIZE), CGRSegImageProcessorPil(size=SIZE)]
        self.segmenter = Segmenter.from_pretrained(folder, "torch")
        self.limited_segmenter = Segmenter.from_pretrained(folder, "torch", max_pixels=corpus.MAX_PIXELS)
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
def machine(decided_model, photos, tmp_path_factory) -> Machine:
    model = copy.deepcopy(decided_model)
    processor = CGRSegImageProcessor(size=SIZE)
    some = [str(path) for path in sorted(photos.glob("*.jpg"))[:4]]
    with torch.inference_mode():
        means = [model(**processor(photo, return_tensors="pt")).logits.mean(dim=(0, 2, 3)) for photo in some]
    with torch.no_grad():  # so that each class is about as likely as the others, and few pictures have one alone
        model.head.classifier.bias -= torch.stack(means).mean(dim=0)
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Machine(model, folder)


def test_pictures_have_several_classes(machine, photos, tmp_path):
    """Else an answer would be right whatever the picture."""
    some = Corpus(tmp_path, photos)
    label_maps = [machine.label(np.asarray(some.photo(index))) for index in range(12)]
    assert np.mean([len(np.unique(label_map)) > 1 for label_map in label_maps]) > 0.8
    assert len({label_map.tobytes() for label_map in label_maps}) == 12


def same(expected: np.ndarray, agreement: float = 0.999) -> Callable[[Any], bool]:
    """Whether a label map is this one, but for a pixel in a thousand, where classes are as good as equal."""

    def is_right(answer: Any) -> bool:
        label_map = np.asarray(getattr(answer, "label_map", answer))
        return label_map.shape == expected.shape and np.mean(label_map == expected) >= agreement

    return is_right


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

    note("Segmenter", lambda: machine.segmenter(path), is_right, names(path, (UnreadableImageError,)))
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
    note_check(data, case, pixels is not None, outcomes)
    if not everywhere:
        return
    note(
        "evaluate",
        lambda: evaluate_model(machine.model, machine.processors[0], data, progress=False).confusion_matrix,
        None if pixels is None else lambda matrix: matrix.trace() == matrix.sum() == expected.size,
        names(path),
    )
    in_parts = path.suffix in (".tif", ".tiff", ".bmp")  # of what is decoded as a whole, one format stands for all
    if in_parts and (pixels is None or max(pixels.shape) <= _LONGEST_IN_WINDOWS):
        windows = {"tile": 64, "overlap": 8}
        # Not all TIFF files that can be decoded can be read part by part, and some that Pillow refuses can.
        is_tiff = path.suffix in (".tif", ".tiff")
        seen = corpus.decode_in_parts(path) if is_tiff and pixels is None else pixels
        wanted = None if seen is None else same(machine.segmenter(seen, **windows).label_map)
        clear = names(path, (UnreadableImageError,))
        note("windows", lambda: machine.limited_segmenter(path, **windows), wanted, clear, is_tiff)
    look_at_pipeline(machine, case, pixels, expected, outcomes)


def note_check(data: SegmentationData, case: Case, is_good: bool, outcomes: Outcomes) -> None:
    """Have check-data look at one pair: an error there is a finding."""

    def find_error() -> str | None:
        errors = check_data(data, show_progress=False).errors
        return str(errors[0]) if errors else None

    outcome = judge(find_error, lambda found: check_finding(found, case.path, is_good), names(case.path))
    outcomes.note(case.kind, "check-data", case.name, "refused" if outcome == "right" and not is_good else outcome)


def check_finding(found: str | None, path: Path, is_good: bool) -> bool:
    """Whether what was found in a pair is what is wrong with this file of it."""
    return found is None if is_good else found is not None and lacks(found, path) is None


def look_at_pipeline(
    machine: Machine, case: Case, pixels: np.ndarray | None, expected: np.ndarray | None, outcomes: Outcomes
) -> None:
    """Pass a file to transformers' pipeline, which opens it by itself, in ways of its own."""
    if not case.path.is_file():  # whose name it takes for base64
        outcome = judge(lambda: machine.by_pipeline(case.path), None, lambda _: None)
    else:
        try:
            loaded = corpus.flatten(load_image(str(case.path)))
        except Exception:
            loaded = None
        outcome = judge(
            lambda: machine.by_pipeline(case.path),
            None if loaded is None else same(expected if np.array_equal(loaded, pixels) else machine.label(loaded)),
            lambda _: None,  # its own words
        )
    outcomes.note(case.kind, "pipeline", case.name, outcome)


def look_at_array(machine: Machine, case: ArrayCase, folder: Path, outcomes: Outcomes) -> None:
    """Pass an array to both image processors, to the Segmenter, and as a file in windows."""
    kind = "arrays"
    # Resized floats are not rounded to whole numbers of brightness, here one of 255 and about 0.02 when normalised.
    is_float = getattr(getattr(case.array, "dtype", None), "kind", "") == "f"
    rounding, agreement = (0.02, 0.98) if is_float else (0, 0.999)
    for processor in machine.processors:
        wanted = None if case.pixels is None else machine.prepare(case.pixels, processor)
        outcomes.note(
            kind,
            "image processors",
            case.name,
            judge(
                lambda processor=processor: processor(case.array, return_tensors="pt", **case.settings).pixel_values,
                None if wanted is None else lambda answer, wanted=wanted: torch.allclose(answer, wanted, atol=rounding),
                describes,
            ),
        )
    if (case.pixels is None and case.settings) or case.name == "an empty batch":
        return  # the Segmenter takes no such settings, and gives no results for no pictures
    if case.name != "an empty list":
        wanted = None if case.pixels is None else same(machine.label(case.pixels), agreement)
        outcomes.note(kind, "Segmenter", case.name, judge(lambda: machine.segmenter(case.array), wanted, describes))
    if isinstance(case.array, np.ndarray):
        file = folder / "array.npy"
        np.save(file, case.array)
        windows = {"tile": 64, "overlap": 8}
        wanted = None if case.pixels is None else same(machine.segmenter(case.pixels, **windows).label_map, agreement)
        clear = names(file, (UnreadableImageError,))
        outcomes.note(kind, "windows", case.name, judge(lambda: machine.segmenter(file, **windows), wanted, clear))


def look_at_mask(machine: Machine, case: Case, ids: np.ndarray | None, outcomes: Outcomes) -> None:
    """Pass a mask to check-data and evaluate, and to the image processors as a segmentation map."""
    image = case.path.parents[1] / "images" / f"{case.path.stem}.jpg"
    data = machine.pairs(image, case.path)
    as_is = {"do_resize": False, "do_pad": False, "return_tensors": "pt"}
    note_check(data, case, ids is not None, outcomes)
    prediction = machine.label(decode(image))
    counted = None if ids is None else np.bincount(ids[ids < corpus.NUM_CLASSES], minlength=corpus.NUM_CLASSES)
    correct = None if ids is None else int((prediction == ids).sum())
    outcomes.note(
        case.kind,
        "evaluate",
        case.name,
        judge(
            lambda: evaluate_model(machine.model, machine.processors[0], data, progress=False).confusion_matrix,
            None if ids is None else lambda matrix: (matrix.sum(axis=1) == counted).all() and matrix.trace() == correct,
            names(case.path),
        ),
    )
    for processor in machine.processors:
        outcomes.note(
            case.kind,
            "image processors",
            case.name,
            judge(
                lambda processor=processor: processor(str(image), str(case.path), num_labels=5, **as_is).labels[0],
                None if ids is None else lambda labels: np.array_equal(labels, ids),
                lambda error: None if isinstance(error, OSError) else describes(error),
            ),
        )


# --- commands, as processes of their own


@dataclass
class Ended:
    """How a command ended: its exit code, what it printed, and the most memory it took in MiB."""

    code: int
    output: str
    errors: str
    mebibytes: float


def run_command(*arguments: str, folder: Path, timeout: float = 1500) -> Ended:
    """Run cgrseg; where that is possible, as somebody who may not read everything."""
    command = [sys.executable, "-m", "cgrseg_hf", *arguments]
    if os.geteuid() == 0 and shutil.which("setpriv"):
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    with (folder / "output").open("w") as output, (folder / "errors").open("w") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, stdin=subprocess.DEVNULL)
        alarm = threading.Timer(timeout, process.kill)
        alarm.start()
        _, status, usage = os.wait4(process.pid, 0)
        alarm.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    texts = [(folder / name).read_text(errors="surrogateescape") for name in ("output", "errors")]
    return Ended(process.returncode, *texts, usage.ru_maxrss / 1024)


def error_lines(ended: Ended) -> list[str]:
    """What a command said to its user: the lines of its errors but for its progress bar and libtiff's own."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", ended.errors)]
    return [line for line in lines if line and not _BAR.match(line) and not _LIBTIFF.match(line)]


def predict_all(machine: Machine, cases: Iterable[Case], folder: Path, outcomes: Outcomes, model: Path) -> Ended:
    """Run `cgrseg predict` on the whole folder at once, and look at what it wrote and said."""
    cases = [case for case in cases if not case.path.name.startswith(".")]
    in_folders = [case.path for case in cases if case.path.suffix.lower() in IMAGE_SUFFIXES]
    others = [str(case.path) for case in cases if case.path not in in_folders]
    (place,) = {case.path.parents[len(case.path.relative_to(folder / "pictures").parts) - 1] for case in cases}
    ended = run_command(
        *("predict", str(place), *others, "--output", str(folder / "out"), "--model", str(model), "--json"),
        *("--engine", "torch", "--batch-size", "3"),
        folder=folder,
    )
    printed = json.loads(ended.output)
    written = {one["source"]: one["files"] for one in printed["results"]}
    failed = printed["errors"]
    for case in cases:
        pixels = None if case.name == "locked.jpg" and may_not_read_all() else decode(case.path)
        about = [line for line in failed if line.startswith(f"{printable(str(case.path))} ")]
        outcome = judge_prediction(machine, written.get(str(case.path)), pixels, about, case.path)
        outcomes.note(case.kind, "predict", case.name, outcome)
    wrong = [] if ended.code == 1 else [f"exit code {ended.code}"]
    wrong += [f"a line that is none of its errors: {line}" for line in error_lines(ended) if line not in failed]
    wrong += [] if len(failed) + len(written) == len(cases) else ["files of which nothing was said"]
    wrong += [] if ended.mebibytes < _MOST_MEBIBYTES else [f"{ended.mebibytes:.0f} MiB of memory"]
    outcomes.wrong += [f"the whole folder, predict: {what}" for what in wrong]
    return ended


def predict_in_windows(cases: Iterable[Case], folder: Path, outcomes: Outcomes, model: Path) -> None:
    """Run `cgrseg predict --tile` on what is read part by part: a result or a line of error for each, and no more."""
    place = folder / "in_parts"
    place.mkdir()
    files = [case.path for case in cases if case.path.suffix in (".tif", ".tiff") and case.path.is_file()]
    files = [path for path in files if path.stat().st_size < _LARGEST_IN_WINDOWS]
    for path in files:
        shutil.copy(path, place / path.name)
    limits = ("--tile", "64", "--overlap", "8", "--max-pixels", "1000000")
    arguments = ("predict", str(place), "--output", str(folder / "windows"), "--model", str(model), "--json", *limits)
    ended = run_command(*arguments, "--engine", "torch", folder=folder)
    printed = json.loads(ended.output)
    about = Counter(one["source"] for one in printed["results"])
    about.update(line[: re.search(r"\.tiff?", line).end()] for line in printed["errors"])
    wrong = [line for line in error_lines(ended) if line not in printed["errors"]]
    wrong += [line for line in printed["errors"] if not REMEDY.search(line)]
    wrong += [f"{count} lines on {name}" for name, count in about.items() if count > 1]
    wrong += [] if about.total() == len(files) and ended.code == 1 else [f"{about.total()} of {len(files)} files"]
    outcomes.wrong += [f"predict in windows: {what}" for what in wrong]


def judge_prediction(
    machine: Machine, files: dict[str, str] | None, pixels: np.ndarray | None, about: list[str], path: Path
) -> str:
    """What came of one of predict's files."""
    if files is not None and about:
        return "both results and an error"
    if pixels is None:
        if files is not None or len(about) != 1:
            return f"{len(about)} errors, results: {files}"
        return lacks(about[0], path) or "refused"
    if files is None:
        return f"refused, but it can be read: {about}"
    with Image.open(files["classes"]) as classes:
        return "right" if same(machine.label(pixels))(classes) else "wrong answer"


def may_not_read_all() -> bool:
    """Whether commands run here as somebody who may not read every file."""
    return os.geteuid() != 0 or shutil.which("setpriv") is not None


def evaluate_all(machine: Machine, cases: list[Case], folder: Path, outcomes: Outcomes, model: Path) -> None:
    """Run check-data on photos of which some are bad, and evaluate on the good ones, and with a bad one."""
    data = folder / "data"
    names_of = {}
    for index, case in enumerate(cases):
        suffix = case.path.suffix.lower()
        if suffix not in IMAGE_SUFFIXES or not case.path.is_file() or case.name == "locked.jpg":
            continue
        pixels = decode(case.path)
        split = "train" if pixels is None else "validation"
        for part in ("images", "annotations"):
            (data / split / part).mkdir(parents=True, exist_ok=True)
        name = f"{index:04d}{suffix}"
        shutil.copy(case.path, data / split / "images" / name)
        ids = np.zeros((1, 1)) if pixels is None else machine.label(pixels)
        Image.fromarray(ids.astype(np.uint8)).save(data / split / "annotations" / f"{index:04d}.png")
        names_of[name] = case
    (data / "id2label.json").write_text(json.dumps(ID2LABEL))
    num_good = len(list((data / "validation" / "images").iterdir()))
    num_bad = len(names_of) - num_good
    checked = run_command("check-data", str(data), "--json", folder=folder)
    report = json.loads(checked.output)
    (finding,) = [one for one in report["train"]["findings"] if one["kind"] == "unreadable file"]
    wrong = [] if checked.code == 1 and not error_lines(checked) else [f"check-data: {checked.code}, {checked.errors}"]
    wrong += [] if finding["count"] == num_bad else [f"check-data found {finding['count']} of {num_bad} bad files"]
    errors = [one for one in report["validation"]["findings"] if one["severity"] == "error"]
    wrong += [f"check-data found {errors} in good files"] if errors else []

    arguments = ("evaluate", str(model), "--data", str(data), "--json", "--num-workers", "1", "--worst", "0")
    scored = run_command(*arguments, "-o", str(folder / "scores"), folder=folder)
    metrics = json.loads(scored.output)
    if (scored.code, metrics["num_images"]) != (0, num_good) or metrics["metrics"]["overall_accuracy"] < 0.999:
        wrong.append(f"evaluate: {scored.code}, {metrics['num_images']} images, {metrics['metrics']}")
    refused = run_command(*arguments, "--split", "train", "-o", str(folder / "scores"), folder=folder)
    said = [line for line in error_lines(refused) if line.startswith("Error: ")]
    first = sorted((data / "train" / "images").iterdir())[0]
    if refused.code != 1 or len(said) != 1 or lacks(said[0], first) or "Traceback" in refused.errors:
        wrong.append(f"evaluate on bad files: {refused.code}, {refused.errors}")
    outcomes.wrong += wrong


# --- what nobody thought of

_DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(),
    hnp.datetime64_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.byte_string_dtypes(),
)
_SHAPES = st.one_of(
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 2, 3, 4, 5))),
    st.tuples(st.sampled_from((1, 3, 4)), st.integers(1, 40), st.integers(1, 40)),
)
_LAYOUTS = st.sampled_from((None, "channels_first", "channels_last"))
_BYTES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=12)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Arrays of any type, shape and values; often of usual values, so that some are pictures."""
    dtype = draw(_DTYPES)
    elements = None
    if dtype.kind in "iu" and draw(st.booleans()):
        elements = st.integers(0, 127)
    elif dtype.kind == "f" and draw(st.booleans()):
        elements = st.floats(0, 1, width=min(dtype.itemsize, 8) * 8)
    array = draw(hnp.arrays(dtype, _SHAPES, elements=elements))
    if array.ndim and draw(st.booleans()):
        array = array[:: draw(st.sampled_from((-1, 2, -2)))]
    return np.asfortranarray(array) if draw(st.booleans()) else array


def try_array(machine: Machine, array: np.ndarray, layout: str | None) -> str:
    """Pass an array on: "right" if it was answered or refused in words, otherwise what was wrong."""

    def is_sound(label_map: np.ndarray) -> bool:
        return label_map.dtype == np.uint8 and label_map.max() < corpus.NUM_CLASSES and label_map.size > 0

    found = []
    for processor in machine.processors:
        found.append(
            judge(
                partial(prepare_array, processor, array, layout),
                lambda pixel_values: bool(torch.isfinite(pixel_values).all()) and pixel_values.shape[1] == 3,
                describes,
                may_be_refused=True,
            )
        )
    if found[0] != found[1]:
        return f"the two image processors differ: {found}"
    many = lambda: [one.label_map for one in np.atleast_1d(machine.segmenter(array))]  # noqa: E731
    found.append(judge(many, lambda maps: all(map(is_sound, maps)), describes, may_be_refused=True))
    return next((one for one in found if one not in ("right", "refused")), found[-1])


def prepare_array(processor: Any, array: np.ndarray, layout: str | None) -> torch.Tensor:
    """What the network gets of an array."""
    return processor(array, input_data_format=layout, return_tensors="pt").pixel_values


def damage(content: bytes, flips: list[tuple[float, int]], kept: float, repeated: bool) -> bytes:
    """A file with bytes flipped, its end cut off, or a part of it twice."""
    damaged = bytearray(content)
    for place, value in flips:
        damaged[int(place * len(damaged))] ^= value
    end = int(kept * len(damaged))
    return bytes(damaged[:end] + damaged[end // 2 : end] if repeated else damaged[:end])


def try_file(machine: Machine, path: Path) -> str:
    """Pass a damaged file to all that open files: "right", "refused", or what was wrong."""
    outcomes = Outcomes()
    look_at_picture(machine, Case(path, "fuzzed", "as decoded"), path.with_name("mask.png"), outcomes, everywhere=False)
    return "; ".join(outcomes.wrong) or next(iter(outcomes.counts["fuzzed"]["Segmenter"]))


def fuzz_arrays(machine: Machine, max_examples: int) -> Counter:
    """Arrays that hypothesis makes up; how many there were of each outcome."""
    counts: Counter = Counter()

    @_settings(max_examples)
    @given(arrays(), _LAYOUTS)
    def run(array: np.ndarray, layout: str | None) -> None:
        outcome = try_array(machine, array, layout)
        assert outcome in ("right", "refused"), outcome
        counts[outcome] += 1

    run()
    return counts


def fuzz_files(machine: Machine, photos: Path, folder: Path, max_examples: int) -> Counter:
    """Files of every format that hypothesis damages; how many there were of each outcome."""
    counts: Counter = Counter()
    whole = corpus.make_whole_ones(Corpus(folder, photos))

    @_settings(max_examples)
    @given(st.sampled_from(sorted(whole)), _BYTES, st.one_of(st.just(1.0), st.floats(0, 1)), st.booleans())
    def run(name: str, flips: list[tuple[float, int]], kept: float, repeated: bool) -> None:
        path = folder / f"fuzzed.{name}"
        path.write_bytes(damage(whole[name], flips, kept, repeated and kept < 1))
        outcome = try_file(machine, path)
        assert outcome in ("right", "refused"), outcome
        counts[outcome] += 1

    run()
    return counts


def _settings(max_examples: int) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    return settings(
        max_examples=max_examples, deadline=None, derandomize=True, database=None, suppress_health_check=slow
    )


# --- tests


@pytest.mark.parametrize("add", [corpus.add_color_modes, corpus.add_no_pictures, corpus.add_odd_places])
def test_pictures_are_right_or_refused_in_words(machine, photos, tmp_path, add):
    outcomes = Outcomes()
    some = Corpus(tmp_path / "pictures", photos)
    add(some)
    for case in some.cases[:: 1 if len(some.cases) < 20 else 3]:
        if case.name != "locked.jpg" or os.geteuid() != 0:
            look_at_picture(machine, case, tmp_path / "mask.png", outcomes, everywhere=False)
    assert not outcomes.wrong, "\n".join(outcomes.wrong)
    assert outcomes.total("refused") > 3


def test_arrays_are_right_or_refused_in_words(machine, photos, tmp_path):
    outcomes = Outcomes()
    for case in make_arrays(tmp_path, photos)[::2]:
        look_at_array(machine, case, tmp_path, outcomes)
    assert not outcomes.wrong, "\n".join(outcomes.wrong)
    assert outcomes.total("right") > 30 and outcomes.total("refused") > 30


def test_masks_are_right_or_refused_in_words(machine, photos, tmp_path):
    outcomes = Outcomes()
    for case, ids in make_masks(tmp_path, photos)[::3]:
        look_at_mask(machine, case, ids, outcomes)
    assert not outcomes.wrong, "\n".join(outcomes.wrong)
    assert outcomes.total("right") > 10 and outcomes.total("refused") > 10


def test_arrays_that_were_made_up(machine):
    assert set(fuzz_arrays(machine, 20)) == {"right", "refused"}


def test_files_that_were_damaged(machine, photos, tmp_path):
    assert set(fuzz_files(machine, photos, tmp_path, 20)) == {"right", "refused"}


_ENTRIES = ("image processors", "Segmenter", "windows", "pipeline", "predict", "evaluate", "check-data")


@pytest.mark.reliability
def test_everything_through_every_entry_point(machine, photos, tmp_path):
    outcomes = Outcomes()
    cases = make_pictures(tmp_path / "pictures", photos)
    predict_all(machine, cases, tmp_path, outcomes, machine.folder)
    predict_in_windows(cases, tmp_path, outcomes, machine.folder)
    evaluate_all(machine, cases, tmp_path, outcomes, machine.folder)
    for case in cases:
        if case.name != "locked.jpg" or os.geteuid() != 0:
            look_at_picture(machine, case, tmp_path / "mask.png", outcomes)
    for case, ids in make_masks(tmp_path / "masks", photos):
        look_at_mask(machine, case, ids, outcomes)
    for case in make_arrays(tmp_path, photos):
        look_at_array(machine, case, tmp_path, outcomes)
    fuzzed = [fuzz_arrays(machine, _NUM_FUZZED), fuzz_files(machine, photos, tmp_path / "fuzzed", _NUM_FUZZED)]

    for kind, counts in outcomes.counts.items():
        print(kind, *(_in_words(counts[entry]) for entry in _ENTRIES), sep=" | ")
    print("made up arrays", _in_words(fuzzed[0]), "damaged files", _in_words(fuzzed[1]), sep=" | ")
    assert not outcomes.wrong, "\n".join(outcomes.wrong)


def _in_words(counts: Counter) -> str:
    return f"{counts['right']} / {counts['refused']}"
