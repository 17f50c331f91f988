# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Run an exported folder: one engine for each format."""

import contextlib
import functools
import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import AutoConfig

from ..utils.messages import one_line
from ..utils.optional import import_optional
from ..utils.provenance import count_cores
from .engine import Engine, resolve_device
from .export_settings import read_settings
from .shape_cache import ShapeCache

# Attention biases grow with the square of the pixels: for 2,048×2,048 they would take gigabytes.
_LARGEST_COPY = 1024 * 1024

# OpenVINO's names of the types. Parts of an 8-bit graph that are not quantised are computed in bfloat16.
_OPENVINO_TYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16", torch.int8: "bf16"}

Call = Callable[[torch.Tensor], torch.Tensor]


class ExportedEngine(Engine):
    """
    An exported folder. Calls from several threads take turns.

    An export with `include_preprocessing` takes images, uint8 `(batch, height, width, channels)`, instead of pixel
    values. One with `include_argmax` returns label maps `(batch, height, width)` instead of logits.

    Args:
        folder (`str` or `Path`): The folder that `cgrseg export` wrote.
        device (`torch.device`): Where to run.
        dtype (`torch.dtype`, *optional*): Type of the arithmetic, by default the folder's.
        num_threads (`int`, *optional*): Processor cores to use, by default all.

    Raises:
        ValueError: If the folder is not an export, is damaged, or cannot be computed in this type or on this device.
        ImportError: If the engine's package is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        device: torch.device,
        dtype: torch.dtype | None = None,
        num_threads: int | None = None,
    ):
        self.folder = Path(folder)
        self.settings = read_settings(folder)
        self.config = AutoConfig.from_pretrained(folder)
        self.device = device
        own_dtype = getattr(torch, self.settings.precision)
        self.dtype = dtype or own_dtype
        if self.dtype != own_dtype and not self.can_change_dtype():
            precision = str(dtype).removeprefix("torch.")
            raise ValueError(
                f"{folder} holds a {self.settings.precision} model, and {precision} is asked for: export the model "
                f"again with precision={precision!r}."
            )
        self.num_threads = num_threads
        self._lock = threading.Lock()
        # All that depends on the size alone, such as attention biases, is computed once in a copy of the graph.
        self.copies: ShapeCache[Call] = ShapeCache(self.load)
        self._general = self.load(None)

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        See [`Engine`].

        Raises:
            ValueError: If the folder was exported for one size, and the input has another.
        """
        size = tuple(pixel_values.shape[1:3] if self.settings.include_preprocessing else pixel_values.shape[2:])
        only_size = self.settings.size
        if only_size is not None and (len(pixel_values), *size) != (1, *only_size):
            raise ValueError(
                f"{self.folder} was exported for one input of {only_size[0]}×{only_size[1]} pixels at a time, and got "
                f"{len(pixel_values)} of {size[0]}×{size[1]}: export it without a size."
            )
        with self._lock:
            run = self._general
            if only_size is None and math.prod(size) <= _LARGEST_COPY:
                run = self.copies.get(tuple(pixel_values.shape)) or run
            return run(pixel_values.contiguous()).to(self.device)

    def can_change_dtype(self) -> bool:
        """Whether the engine can compute the same file in another type."""
        return False

    @abstractmethod
    def load(self, shape: tuple[int, ...] | None) -> Call | None:
        """Load the graph for one shape of input, or for all; None if the engine gains nothing from a shape."""


class OnnxRuntimeEngine(ExportedEngine):
    """ONNX Runtime on the CPU, or with the package onnxruntime-gpu on `"cuda"`, see [`ExportedEngine`]."""

    name = "onnxruntime"

    def load(self, shape: tuple[int, ...] | None) -> Call:
        """See [`ExportedEngine`]."""
        onnxruntime = import_optional("onnxruntime", "export", "ONNX files")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; the warnings are about constants that it chooses not to fold
        options.intra_op_num_threads = self.num_threads or count_cores()
        if shape is not None:
            for name, length in zip(self._axes, shape):
                if isinstance(name, str):
                    options.add_free_dimension_override_by_name(name, length)
        file = self.folder / self.settings.file
        providers = self._find_providers(onnxruntime)
        with _errors_naming(file):
            session = onnxruntime.InferenceSession(file, options, providers=providers)
        (entry,) = session.get_inputs()
        if shape is None:
            self._axes = entry.shape
        return lambda inputs: torch.from_numpy(session.run(None, {entry.name: inputs.cpu().numpy()})[0])

    def _find_providers(self, onnxruntime: ModuleType) -> list[Any]:
        """ONNX Runtime's names of the device, and of the CPU for what the device cannot do."""
        needed = "CUDAExecutionProvider" if self.device.type == "cuda" else "CPUExecutionProvider"
        available = onnxruntime.get_available_providers()
        if needed not in available:
            raise ValueError(
                f"device={str(self.device)!r}, but the ONNX Runtime here runs on {', '.join(available)} alone: install "
                "onnxruntime-gpu, or use device='cpu'."
            )
        if needed == "CPUExecutionProvider":
            return [needed]
        return [(needed, {"device_id": self.device.index or 0}), "CPUExecutionProvider"]


class OpenVinoEngine(ExportedEngine):
    """
    OpenVINO on the CPU, see [`ExportedEngine`].

    A float32 folder can also be computed in bfloat16 and the other way round. Where a processor has no bfloat16 or
    float16, float32 is used.
    """

    name = "openvino"

    def can_change_dtype(self) -> bool:
        """See [`ExportedEngine`]."""
        return self.settings.precision != "int8" and self.dtype != torch.int8

    def load(self, shape: tuple[int, ...] | None) -> Call:
        """See [`ExportedEngine`]."""
        if self.device.type != "cpu":
            raise ValueError(f"device={str(self.device)!r}, but OpenVINO files run on the CPU alone: use device='cpu'.")
        core = openvino_core()
        file = self.folder / self.settings.file
        with _errors_naming(file):
            model = core.read_model(file)
        if shape is not None:
            model.reshape(list(shape))
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _OPENVINO_TYPES[self.dtype]}
        if self.num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = self.num_threads
        request = core.compile_model(model, "CPU", options).create_infer_request()
        return lambda inputs: torch.from_numpy(request.infer([inputs.cpu().numpy()], share_inputs=True)[0])


@functools.cache
def openvino_core() -> Any:
    """
    The one `openvino.Core` of this process, which lives as long as the process.

    Each gives the thread that makes it a stack for signals, and takes it away when it ends: where several end in
    another order than the reverse, a signal such as the end of a child process finds no stack, and the process dies.

    Raises:
        ImportError: If OpenVINO is not installed.
    """
    return import_optional("openvino", "export", "OpenVINO files").Core()


class TorchProgramEngine(ExportedEngine):
    """A program of torch.export, run by PyTorch, see [`ExportedEngine`]; `num_threads` holds for the whole process."""

    name = "torch"

    def load(self, shape: tuple[int, ...] | None) -> Call | None:
        """See [`ExportedEngine`]."""
        if shape is not None:
            return None
        if self.num_threads is not None:
            torch.set_num_threads(self.num_threads)
        file = self.folder / self.settings.file
        with _errors_naming(file):
            program = torch.export.load(file)
        if self.device.type != "cpu":
            program = torch.export.passes.move_to_device_pass(program, self.device)
        module = program.module()

        @torch.no_grad()
        def call(inputs: torch.Tensor) -> torch.Tensor:
            try:
                return module(inputs.to(self.device))
            except AssertionError as error:
                raise ValueError(
                    f"{self.folder} does not take {tuple(inputs.shape)} ({error}): programs of torch.export have a "
                    "smallest height and width; make the images larger, or export for that size."
                ) from error

        return call


_ENGINES = {"onnx": OnnxRuntimeEngine, "openvino": OpenVinoEngine, "torch": TorchProgramEngine}


def open_export(
    folder: str | Path,
    engine: str = "auto",
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    num_threads: int | None = None,
    *,
    trust_remote_code: bool = False,
    needs_logits: bool = True,
) -> ExportedEngine:
    """
    Open an exported folder by the engine of its format.

    Args:
        folder (`str` or `Path`):
            The folder that `cgrseg export` wrote.
        engine (`str`, *optional*, defaults to `"auto"`):
            The engine's name, to be refused if the folder is for another.
        device (`str` or `torch.device`, *optional*):
            Where to run, by default the CPU, or for `"torch"` a GPU if there is one.
        dtype (`torch.dtype`, *optional*), num_threads (`int`, *optional*):
            See [`ExportedEngine`].
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Allow a program of torch.export, which can run any code when it is loaded.
        needs_logits (`bool`, *optional*, defaults to `True`):
            Refuse exports that take images or return label maps.

    Raises:
        ValueError: If the folder is not an export, is not trusted, or does not fit what is asked for.
        ImportError: If the engine's package is not installed.
    """
    settings = read_settings(folder)
    engine_class = _ENGINES[settings.format]
    if engine not in ("auto", engine_class.name):
        raise ValueError(f"engine={engine!r}, but {folder} is for engine={engine_class.name!r}.")
    if needs_logits and (settings.include_preprocessing or settings.include_argmax):
        raise ValueError(
            f"{folder} takes {settings.input_name} and returns {settings.output_name}; engines, the Segmenter and "
            "pipelines need a file that takes pixel_values and returns logits: export without preprocessing and argmax."
        )
    if settings.format == "torch" and not trust_remote_code:
        raise ValueError(
            f"{Path(folder) / settings.file} is a program of torch.export, which can run any code when it is loaded. "
            "If you trust its author, pass trust_remote_code=True (--trust-remote-code). Otherwise export the model "
            "yourself from its safetensors weights."
        )
    return engine_class(folder, resolve_device(engine_class.name, device), dtype, num_threads)


@contextlib.contextmanager
def _errors_naming(file: Path) -> Iterator[None]:
    """Name the file that an engine does not load; each engine has errors of its own for damaged or unsafe files."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{file} cannot be loaded: it is damaged, was changed, or comes from another release. Export the model "
            f"again with `cgrseg export`. (The engine says: {one_line(str(error).strip())})"
        ) from error
