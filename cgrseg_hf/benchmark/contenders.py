# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A model, what computes it, in which form and precision."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import pipeline

from ..engines.engine import Engine
from ..export.choosing import make_engine
from ..inference import Segmenter
from .plain import PlainExport, PlainTorch
from .sources import Source


@dataclass
class Contender:
    """
    One of those that are measured.

    Args:
        source ([`Source`]): The model.
        engine ([`Engine`]): What computes it.
        form (`str`): `"inference"` for this package's way through its `make_engine`, `"plain"` for the model as it is,
            `"export"` for a folder that was exported before.
    """

    source: Source
    engine: Engine
    form: str

    @property
    def precision(self) -> str:
        """Type of the arithmetic."""
        return str(self.engine.dtype).removeprefix("torch.")

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return f"{self.source.name}, {self.engine.name}, {self.form}, {self.precision}"

    def make_whole_path(self, size: tuple[int, int]) -> Callable[[Path], Any] | None:
        """What takes a photo's file to its label map: the Segmenter, or for plain models transformers' pipeline."""
        image_processor = self.source.image_processor_for(size)
        if self.form != "plain":
            return Segmenter(self.engine, image_processor)
        if not isinstance(self.engine, PlainTorch) or self.engine.name != "torch":
            return None  # transformers' pipeline runs models alone
        segment = pipeline(
            "image-segmentation",
            model=self.engine.model,
            image_processor=image_processor,
            device=self.engine.device,
            dtype=self.engine.dtype,
        )
        return lambda photo: segment(str(photo), subtask="semantic")


def make_contenders(
    sources: Sequence[Source],
    engines: Sequence[str],
    forms: Sequence[str],
    precisions: Sequence[str],
    device: torch.device,
    num_threads: int,
    leave_out: Callable[[str], None] = print,
) -> list[Contender]:
    """
    Make all that can be measured, model by model.

    Args:
        sources (`Sequence[Source]`): The models.
        engines (`Sequence[str]`): `"torch"`, `"compile"`, `"onnxruntime"`, `"openvino"`.
        forms (`Sequence[str]`): `"inference"` and `"plain"`. Models of others have the plain one only.
        precisions (`Sequence[str]`): `"float32"`, `"bfloat16"`, `"float16"`. An exported folder has its own.
        device (`torch.device`): Where PyTorch runs.
        num_threads (`int`): Processor cores.
        leave_out (`Callable[[str], None]`, *optional*): Is told what cannot be measured, and why.

    Raises:
        ValueError: If nothing is left.
        ImportError: If the package of an engine is not installed.
    """
    contenders = []
    for source in sources:
        for engine, form, precision in _combinations(source, engines, forms, precisions):
            try:
                dtype = None if precision is None else getattr(torch, precision)
                made = _make_engine(source, engine, form, dtype, device, num_threads)
            except ValueError as error:
                leave_out(f"Left out: {source.name}, {engine}, {form}, {precision}: {error}")
                continue
            contenders.append(Contender(source, made, form))
    if not contenders:
        raise ValueError("Nothing is left to measure: choose other engines, forms or precisions.")
    return contenders


def _combinations(
    source: Source, engines: Sequence[str], forms: Sequence[str], precisions: Sequence[str]
) -> Iterator[tuple[str, str, str | None]]:
    if source.export is not None:
        yield "auto", "export", None
        return
    has_inference_form = hasattr(source.model, "optimize_for_inference")
    for engine in engines:
        for precision in precisions:
            for form in forms if has_inference_form else ("plain",):
                yield engine, form, precision


def _make_engine(
    source: Source, engine: str, form: str, dtype: torch.dtype | None, device: torch.device, num_threads: int
) -> Engine:
    if source.export is not None:
        return make_engine(source.export, device="cpu" if device.type == "cpu" else None, num_threads=num_threads)
    if engine in ("torch", "compile"):
        if form == "plain":
            return PlainTorch(source.model, device, dtype, compiled=engine == "compile")
        return make_engine(source.model, engine, device, dtype, num_threads)
    if form == "plain":
        return PlainExport(source.onnx_files, engine, dtype, num_threads)
    return make_engine(source.model, engine, dtype=dtype, num_threads=num_threads)
