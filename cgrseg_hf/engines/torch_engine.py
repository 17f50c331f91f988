# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""PyTorch as an engine: the model as it is, its inference form, or that form compiled."""

import copy
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from .engine import Engine
from .shape_cache import ShapeCache


class PlainEngine(Engine):
    """
    Run the very model that is given: no copy, no inference form. Evaluation uses it by default, parity reports and
    benchmarks compare other engines with it.

    The model keeps its device, type and mode, so call `model.eval()` first. It may be any semantic segmentation model
    of transformers, and any module whose output has `logits`.

    Args:
        model (`torch.nn.Module`):
            The model. It is kept as `engine.model`.
        autocast (`torch.dtype`, *optional*):
            Run a float32 model under `torch.autocast` in this type, such as `torch.bfloat16`. By default the
            arithmetic is that of the model's own type.
        compiled (`bool`, *optional*, defaults to `False`):
            Run the model through `torch.compile`.

    Example:

    ```python
    >>> engine = PlainEngine(model.to(device).eval())  # what `model(pixel_values).logits` computes, in float32
    >>> engine = PlainEngine(model.to(device).eval(), autocast=torch.bfloat16)
    >>> engine = PlainEngine(copy.deepcopy(model).to(device, torch.bfloat16).eval(), compiled=True)
    ```"""

    def __init__(self, model: torch.nn.Module, autocast: torch.dtype | None = None, compiled: bool = False):
        self.name = "compile" if compiled else "torch"
        self.model = model
        self.config = getattr(model, "config", None)
        place = model if isinstance(model, PreTrainedModel) else next(model.parameters())
        self.device = place.device
        self.dtype = autocast or place.dtype
        self._autocast = autocast
        network = _Network(model, place.dtype if autocast is None else torch.float32)
        self._run = _compile(network, self.device) if compiled else network

    @torch.inference_mode()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        See [`Engine`].

        Raises:
            ValueError: If the model's output has no logits of four dimensions.
        """
        with nullcontext() if self._autocast is None else torch.autocast(self.device.type, self._autocast):
            return self._run(pixel_values.to(self.device)).float()


class TorchEngine(Engine):
    """
    PyTorch with the model's inference form where it has one. Calls from several threads take turns.

    Args:
        model (`PreTrainedModel`):
            The model. It stays as it is.
        device (`str` or `torch.device`):
            Where to run.
        dtype (`torch.dtype`):
            Type of the arithmetic.
        compiled (`bool`, *optional*, defaults to `False`):
            Run it through `torch.compile`: the first call of each of the first sizes takes a minute or so.
    """

    def __init__(self, model: PreTrainedModel, device: str | torch.device, dtype: torch.dtype, compiled: bool = False):
        self.name = "compile" if compiled else "torch"
        self.config = model.config
        self.device = torch.device(device)
        self.dtype = dtype
        self._lock = threading.Lock()
        network = _make_network(model, self.device, dtype)
        if compiled:
            self._run = _compile(network, self.device)
        else:
            self._run = _CudaGraphs(network, self.device) if self.device.type == "cuda" else network

    @torch.inference_mode()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See [`Engine`]."""
        pixel_values = pixel_values.to(self.device, non_blocking=pixel_values.is_pinned())
        with self._lock:
            return self._run(pixel_values).float()


class _Network(torch.nn.Module):
    """A model as a function from pixels to logits, in a type of its own."""

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        outputs = self.model(pixel_values=pixel_values.to(self.dtype))
        logits = getattr(outputs, "logits", None)
        if not isinstance(logits, torch.Tensor) or logits.ndim != 4:
            raise ValueError(
                f"{type(self.model).__name__} returns {type(outputs).__name__} without logits of shape (batch, "
                "num_labels, height, width): use a model of AutoModelForSemanticSegmentation, such as SegFormer."
            )
        return logits


def _make_network(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> _Network:
    # Another model is copied: the caller's stays on its device, in its type and mode.
    model = model.optimize_for_inference() if hasattr(model, "optimize_for_inference") else copy.deepcopy(model)
    network = _Network(model.eval().requires_grad_(False), dtype).to(device, dtype)
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network


def _compile(network: _Network, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    if device.type != "cuda":
        return torch.compile(network)
    compiled = torch.compile(network, mode="reduce-overhead")
    return lambda pixel_values: compiled(pixel_values).clone()  # each call writes into the same memory


class _CudaGraphs:
    """
    The network's kernels recorded for each shape of input that comes often, and replayed from then on.

    A network of this size starts hundreds of short kernels; replaying saves the processor's time between them.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device):
        self.network = network
        self.device = device
        # Each holds the memory of one pass through the network.
        self.recordings: ShapeCache[_Recording] = ShapeCache(self._record)

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        recording = self.recordings.get(pixel_values.shape)
        if recording is None:
            return self.network(pixel_values.contiguous(memory_format=torch.channels_last))
        recording.pixels.copy_(pixel_values)
        recording.graph.replay()
        return recording.logits.clone()

    def _record(self, shape: tuple[int, ...]) -> "_Recording":
        pixels = torch.zeros(shape, device=self.device).contiguous(memory_format=torch.channels_last)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):  # lets libraries choose their kernels and take their memory before the recording
                self.network(pixels)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.network(pixels)
        kept_tensors = getattr(self.network.model, "kept_tensors", list)
        return _Recording(graph, pixels, logits, kept_tensors())


@dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    pixels: torch.Tensor
    logits: torch.Tensor
    read: list[torch.Tensor]  # what the kernels read by address, and nobody else may hold
