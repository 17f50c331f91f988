# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Counting and timing: every contender at every size, in rounds."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from transformers.image_processing_utils import BaseImageProcessor

from ..data.layouts import list_pictures
from ..engines.memory import keep_freed_memory
from ..model.modeling_cgrseg import CGRSegSemanticSegmenterOutput
from .contenders import Contender, make_contenders
from .counting import ModelCount, count_model
from .memory import measure_peak_memory
from .plain import PlainExport
from .rounds import Timing, measure_in_rounds
from .settings import BenchmarkSettings
from .sources import Source, load_source


@dataclass(frozen=True)
class Measurement:
    """
    One row of the results.

    Args:
        stage (`str`): What was measured, one of [`STAGES`].
        name (`str`): The contender's name, or for preparation and post-processing the model's.
        size (`tuple[int, int]`): Height and width of the network's input in pixels.
        batch_size (`int`): Images at once.
        threads (`int`): Processor cores.
        timing ([`Timing`]): The times.
        ratio (`float`): Median divided by that of the first contender in this stage, size, batch and threads.
        peak_memory (`int`, *optional*): Bytes that the network's first call needed, see [`measure_peak_memory`].
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
    What was found.

    Args:
        settings ([`BenchmarkSettings`]): What was asked for.
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
        ValueError, OSError: If a model, or a photo, is not there.
        ImportError: If the package of an engine is not installed.
    """
    freed_memory_is_kept = settings.keep_freed_memory and keep_freed_memory()
    sources = _load_sources(settings.models)
    photos = _find_photos(settings.photos) if settings.needs_photos else []
    counts = {
        (source.name, size): count_model(source.model, size)
        for source in sources
        if source.model is not None
        for size in settings.sizes
    }
    measurements: list[Measurement] = []
    left_out: list[str] = []
    if settings.rounds:
        for num_threads in settings.threads:
            torch.set_num_threads(num_threads)
            contenders = make_contenders(
                sources,
                settings.engines,
                settings.forms,
                settings.precisions,
                torch.device(settings.device),
                num_threads,
                left_out.append,
            )
            for size, batch_size in itertools.product(settings.sizes, settings.batch_sizes):
                measurements += _measure(contenders, settings, photos, size, batch_size, num_threads, progress)
    return BenchmarkResult(settings, sources, counts, measurements, left_out, freed_memory_is_kept)


def _load_sources(names: list[str]) -> list[Source]:
    """The models; those with random weights have as many classes as the first."""
    sources: list[Source] = []
    for name in names:
        num_labels = None
        if sources and sources[0].model is not None:
            num_labels = sources[0].model.config.num_labels
        sources.append(load_source(name, num_labels))
    if len({source.name for source in sources}) < len(sources):
        raise ValueError(f"Two of the models have the same name: {', '.join(source.name for source in sources)}.")
    return sources


def _find_photos(photos: Path) -> list[Path]:
    return list_pictures(photos) if photos.is_dir() else [photos]


def _measure(
    contenders: list[Contender],
    settings: BenchmarkSettings,
    photos: list[Path],
    size: tuple[int, int],
    batch_size: int,
    num_threads: int,
    progress: bool,
) -> list[Measurement]:
    """All stages of all contenders at one size, in the same rounds."""
    generator = torch.Generator().manual_seed(0)
    pixel_values = torch.randn(batch_size, 3, *size, generator=generator)
    calls: dict[tuple[str, str], Callable[[int], Any]] = {}
    peaks: dict[tuple[str, str], int | None] = {}
    for stage in settings.stages:
        if stage != "network" and batch_size > 1:
            continue
        for contender in contenders:
            name = contender.name if stage in ("network", "whole-path") else contender.source.name
            if (stage, name) in calls:  # the model's other contenders share it
                continue
            if stage == "network":
                on_device = pixel_values.to(contender.engine.device)
                peaks[stage, name] = _measure_first_calls(contender, on_device)
                calls[stage, name] = _call_network(contender, on_device)
            else:
                call = _make_call(stage, contender, photos, size)
                if call is not None:
                    calls[stage, name] = call
    timings = measure_in_rounds(calls, settings.rounds, progress=progress)
    return list(_as_measurements(timings, peaks, size, batch_size, num_threads))


def _as_measurements(
    timings: Mapping[tuple[str, str], Timing],
    peaks: Mapping[tuple[str, str], int | None],
    size: tuple[int, int],
    batch_size: int,
    num_threads: int,
) -> Iterator[Measurement]:
    first: dict[str, float] = {}
    for (stage, name), timing in timings.items():
        reference = first.setdefault(stage, timing.median)
        yield Measurement(
            stage,
            name,
            size,
            batch_size,
            num_threads,
            timing,
            ratio=timing.median / reference,
            peak_memory=peaks.get((stage, name)),
        )


def _measure_first_calls(contender: Contender, pixel_values: torch.Tensor) -> int | None:
    """
    Memory of the calls that set up what the engine needs for this size, the second or third with what is made for sizes
    that come again; compiling and exporting come before and are left out.
    """
    if contender.engine.name == "compile":
        contender.engine(pixel_values)
    if isinstance(contender.engine, PlainExport):
        contender.engine.export(pixel_values.shape)

    def call_thrice() -> None:
        for _ in range(3):
            contender.engine(pixel_values)

    return measure_peak_memory(call_thrice, contender.engine.device)


def _call_network(contender: Contender, pixel_values: torch.Tensor) -> Callable[[int], Any]:
    return lambda _: contender.engine(pixel_values)


def _make_call(
    stage: str, contender: Contender, photos: list[Path], size: tuple[int, int]
) -> Callable[[int], Any] | None:
    """A stage other than the network, on another photo in each round."""
    if stage == "whole-path":
        segment = contender.make_whole_path(size)
        return None if segment is None else lambda index: segment(photos[index % len(photos)])
    image_processor = contender.source.image_processor_for(size)
    if stage == "preparation":
        return lambda index: _prepare(image_processor, photos[index % len(photos)])
    outputs = [_run(contender, image_processor, photo) for photo in photos]

    def post_process(index: int) -> torch.Tensor:
        output, target_size = outputs[index % len(outputs)]
        return image_processor.post_process_semantic_segmentation(output, target_sizes=[target_size])[0].cpu()

    return post_process


def _prepare(image_processor: BaseImageProcessor, photo: Path) -> Any:
    return image_processor(_open(photo), return_tensors="pt")


def _run(
    contender: Contender, image_processor: BaseImageProcessor, photo: Path
) -> tuple[CGRSegSemanticSegmenterOutput, tuple[int, int]]:
    """What the network makes of a photo, and the photo's height and width."""
    image = _open(photo)
    batch = image_processor(image, return_tensors="pt")
    logits = contender.engine(batch["pixel_values"])
    outputs = CGRSegSemanticSegmenterOutput(logits=logits, image_sizes=batch.get("image_sizes"))
    return outputs, (image.height, image.width)


def _open(photo: Path) -> Image.Image:
    with Image.open(photo) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
