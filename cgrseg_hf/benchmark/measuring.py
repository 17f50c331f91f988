# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Count and time every contender at every size, in interleaved rounds."""

import ctypes
import itertools
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from ..data.layouts import list_images
from ..engines.engine import resolve_device
from ..engines.memory import keep_freed_memory
from ..model.image_reading_cgrseg import read_image, to_photo
from ..model.modeling_cgrseg import CGRSegSemanticSegmenterOutput
from .contenders import Contender, PlainExport, Source, load_source, make_contenders
from .counting import ModelCount, count_model
from .settings import BenchmarkSettings

Name = TypeVar("Name", bound=Hashable)

WARM_UP_ROUNDS = 2
# Threads of engines keep spinning for a moment after their work, and would take the next call's cores.
_PAUSE_BETWEEN_CALLS = 0.01  # seconds

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass(frozen=True)
class Timing:
    """
    Times of a call.

    Args:
        seconds (`list[float]`): One measured time for each round, in the rounds' order.
    """

    seconds: list[float]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """10th and 90th percentile in seconds: four of five rounds are between them."""
        low, high = np.percentile(self.seconds, (10, 90))
        return float(low), float(high)


@dataclass(frozen=True)
class Measurement:
    """
    One row of the results.

    Args:
        stage (`str`): The measured stage, one of `STAGES`.
        name (`str`): The contender's name, or for preparation and post-processing the model's.
        size (`tuple[int, int]`): Height and width of the network's input in pixels.
        batch_size (`int`): Images in one call.
        threads (`int`): Processor cores.
        timing ([`Timing`]): The times.
        ratio (`float`): Median divided by that of the first contender in this stage, size, batch and threads.
        peak_memory (`int`, *optional*): Bytes that the network's first calls needed.
    """

    stage: str
    name: str
    size: tuple[int, int]
    batch_size: int
    threads: int
    timing: Timing
    ratio: float
    peak_memory: int | None = None

    @property
    def images_per_second(self) -> float:
        """Throughput at the median."""
        return self.batch_size / self.timing.median


@dataclass
class BenchmarkResult:
    """
    Counts and times.

    Args:
        settings ([`BenchmarkSettings`]): The settings of the run.
        sources (`list[Source]`): The models, in their order.
        counts (`dict[tuple[str, tuple[int, int]], ModelCount]`): By the model's name and the size; not for exports.
        measurements (`list[Measurement]`): The times.
        left_out (`list[str]`): What could not be measured, and why.
        freed_memory_is_kept (`bool`): Whether keeping freed memory was asked for and took effect.
    """

    settings: BenchmarkSettings
    sources: list[Source]
    counts: dict[tuple[str, tuple[int, int]], ModelCount]
    measurements: list[Measurement]
    left_out: list[str]
    freed_memory_is_kept: bool


def run_benchmark(settings: BenchmarkSettings, progress: bool = False) -> BenchmarkResult:
    """
    Count and time.

    Args:
        settings ([`BenchmarkSettings`]): What to measure.
        progress (`bool`, *optional*, defaults to `False`): Whether to show a bar for each set of rounds.

    Raises:
        ValueError, OSError: If a model, a photo or the device does not exist.
        ImportError: If the package of an engine is not installed.
    """
    device = resolve_device("torch", settings.device)
    settings = replace(settings, device=str(device), threads=settings.threads or [torch.get_num_threads()])
    freed_memory_is_kept = settings.keep_freed_memory and keep_freed_memory()
    sources = _load_sources(settings.models)
    photos = []
    if settings.needs_photos:
        photos = list_images(settings.photos) if settings.photos.is_dir() else [settings.photos]
    models = [source for source in sources if source.model is not None]
    counts = {
        (source.name, size): count_model(source.model, size)
        for source, size in itertools.product(models, settings.sizes)
    }
    measurements: list[Measurement] = []
    left_out: list[str] = []
    for num_threads in settings.threads if settings.rounds else ():
        torch.set_num_threads(num_threads)
        contenders = make_contenders(sources, settings, device, num_threads, left_out)
        for size, batch_size in itertools.product(settings.sizes, settings.batch_sizes):
            calls, peaks = _make_calls(contenders, settings.stages, photos, size, batch_size)
            medians: dict[str, float] = {}
            for (stage, name), timing in measure_in_rounds(calls, settings.rounds, progress=progress).items():
                ratio = timing.median / medians.setdefault(stage, timing.median)
                peak = peaks.get(name) if stage == "network" else None
                measurements.append(Measurement(stage, name, size, batch_size, num_threads, timing, ratio, peak))
    return BenchmarkResult(settings, sources, counts, measurements, left_out, freed_memory_is_kept)


def measure_in_rounds(
    calls: Mapping[Name, Callable[[int], Any]],
    rounds: int,
    warm_up: int = WARM_UP_ROUNDS,
    seed: int = 0,
    progress: bool = False,
) -> dict[Name, Timing]:
    """
    Time every call once a round, in an order that changes from round to round.

    Whatever else the machine does slows all calls alike.

    Args:
        calls (`Mapping[Hashable, Callable[[int], Any]]`):
            The calls to time, by name. Each gets the number of the round, from 0 on.
        rounds (`int`):
            Number of rounds.
        warm_up (`int`, *optional*, defaults to 2):
            Rounds before these, whose times are not kept.
        seed (`int`, *optional*, defaults to 0):
            Seed of the order.
        progress (`bool`, *optional*, defaults to `False`):
            Whether to show a bar.

    Returns:
        `dict[Hashable, Timing]`: by the names of `calls`. On a GPU each time ends when the GPU has done its work.
    """
    order = list(calls)
    shuffle = random.Random(seed).shuffle  # noqa: S311  (an order, no secret)
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for index in tqdm(range(-warm_up, rounds), unit="round", leave=False, disable=not progress):
        shuffle(order)
        for name in order:
            time.sleep(_PAUSE_BETWEEN_CALLS)
            start = _now()
            result = calls[name](max(index, 0))
            elapsed = _now() - start
            del result  # freeing memory is not part of any call
            if index >= 0:
                seconds[name].append(elapsed)
    return {name: Timing(times) for name, times in seconds.items()}


def measure_peak_memory(call: Callable[[], Any], device: torch.device | None = None) -> int | None:
    """
    Measure the memory that a call needs at its peak, beyond what was in use before it.

    Args:
        call (`Callable[[], Any]`): The call; what it returns counts too.
        device (`torch.device`, *optional*): A GPU, to measure its memory. By default the process's own.

    Returns:
        `int`: bytes, for the process those of anonymous pages, not of mapped files. None where the system does not
        report it.
    """
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    try:
        # Freed memory that the C library holds would be used again without being seen.
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except (AttributeError, OSError, TypeError):  # not Linux with glibc
        call()
        return None
    before = _read_status()["RssAnon"]
    call()
    after = _read_status()
    # The highest resident size includes pages of files. Their number only grows, so the last one is the highest.
    return max(after["VmHWM"] - after["RssFile"] - after["RssShmem"] - before, 0)


def _now() -> float:
    """Seconds, once the device has finished its work."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def _read_status() -> dict[str, int]:
    """Read the sizes in this process's status, in bytes."""
    lines = (line.split() for line in _STATUS.read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if line[-1] == "kB"}


def _load_sources(names: list[str]) -> list[Source]:
    """Load the models; those with random weights have as many classes as the first."""
    first = load_source(names[0])
    num_labels = 150 if first.model is None else first.model.config.num_labels
    sources = [first, *(load_source(name, num_labels) for name in names[1:])]
    if len({source.name for source in sources}) < len(sources):
        raise ValueError(f"Two of the models have the same name: {', '.join(source.name for source in sources)}.")
    return sources


def _make_calls(
    contenders: list[Contender], stages: list[str], photos: list[Path], size: tuple[int, int], batch_size: int
) -> tuple[dict[tuple[str, str], Callable[[int], Any]], dict[str, int | None]]:
    """Make the calls of all stages at one size, and measure the peak memory of the networks, by contender."""
    pixel_values = torch.randn(batch_size, 3, *size, generator=torch.Generator().manual_seed(0))
    calls: dict[tuple[str, str], Callable[[int], Any]] = {}
    peaks: dict[str, int | None] = {}
    for stage, contender in itertools.product(stages, contenders):
        is_shared = stage in ("preparation", "post-processing")  # by all contenders of a model
        name = contender.source.name if is_shared else contender.name
        if (stage, name) in calls or (stage != "network" and batch_size > 1):
            continue
        if stage == "network":
            on_device = pixel_values.to(contender.engine.device)
            peaks[name] = _measure_first_calls(contender.engine, on_device)
            calls[stage, name] = lambda _, engine=contender.engine, pixels=on_device: engine(pixels)
        elif (call := _make_call(stage, contender, photos, size)) is not None:
            calls[stage, name] = call
    return calls, peaks


def _measure_first_calls(engine: Any, pixel_values: torch.Tensor) -> int | None:
    """
    Measure the memory of the calls that set up what the engine keeps for this size.

    The second or third call sets up what is made for sizes that come again. Compiling and exporting are left out.
    """
    if engine.name == "compile":
        engine(pixel_values)
    if isinstance(engine, PlainExport):
        engine.export(pixel_values.shape)

    def call_thrice() -> None:
        for _ in range(3):
            engine(pixel_values)

    return measure_peak_memory(call_thrice, engine.device)


def _make_call(
    stage: str, contender: Contender, photos: list[Path], size: tuple[int, int]
) -> Callable[[int], Any] | None:
    """Make the call of a stage other than the network, with another photo in each round; None if it has none."""
    image_processor = contender.source.image_processor_for(size)
    if stage == "whole-path":
        segment = contender.make_whole_path(image_processor)
        return None if segment is None else lambda index: segment(photos[index % len(photos)])
    if stage == "preparation":
        return lambda index: image_processor(_read(photos[index % len(photos)]), return_tensors="pt")
    examples = []
    for photo in map(_read, photos):
        batch = image_processor(photo, return_tensors="pt")
        logits = contender.engine(batch["pixel_values"])
        outputs = CGRSegSemanticSegmenterOutput(logits=logits, image_sizes=batch.get("image_sizes"))
        examples.append((outputs, [(photo.height, photo.width)]))

    def post_process(index: int) -> torch.Tensor:
        return image_processor.post_process_semantic_segmentation(*examples[index % len(examples)])[0].cpu()

    return post_process


def _read(photo: Path) -> Image.Image:
    return to_photo(read_image(photo))
