# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Run an exported file: an array in, an array out."""

import contextlib
import functools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from accelerate.utils import patch_environment

from ..utils.messages import one_line
from ..utils.optional import import_optional
from ..utils.provenance import count_cores
from .export_settings import ExportSettings, read_settings
from .shape_cache import ShapeCache

# Attention biases grow with the square of the pixels: of 2,048×2,048 they would take gigabytes.
_LARGEST_COPY = 1024 * 1024

# What OpenVINO calls the types. Parts of an 8-bit graph that are not quantised are computed in bfloat16.
_OPENVINO_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "bf16"}

Call = Callable[[np.ndarray], np.ndarray]


@contextlib.contextmanager
def _errors_naming(file: Path) -> Iterator[None]:
    """Say which file an engine does not load; each has errors of its own for what is damaged or unsafe."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{file} cannot be loaded: it is damaged, was changed, or comes of another release. Export the model again "
            f"with `cgrseg export`. (The engine says: {one_line(str(error).strip())})"
        ) from error


class Runtime(ABC):
    """
    An exported folder, ready to run. Calls from several threads take turns.

    Args:
        folder (`str` or `Path`): What `cgrseg export` wrote.
        num_threads (`int`, *optional*): Processor cores to use; by default all.
        precision (`str`, *optional*): Type of the arithmetic, if another than the folder's is possible.
        device (`str`, *optional*, defaults to `"cpu"`): Where to run.

    Raises:
        ValueError: If the folder is no export, or does not fit what is asked for.
        ImportError: If the engine's package is not installed.
    """

    def __init__(
        self,
        folder: str | Path,
        num_threads: int | None = None,
        precision: str | None = None,
        device: str = "cpu",
    ):
        self.folder = Path(folder)
        self.device = device
        self.settings: ExportSettings = read_settings(folder)
        self.precision = precision or self.settings.precision
        if self.precision != self.settings.precision and not self.can_change_precision():
            raise ValueError(
                f"{folder} holds a {self.settings.precision} model, and {self.precision} is asked for: export the "
                f"model again with precision={self.precision!r}."
            )
        self.num_threads = num_threads
        self._lock = threading.Lock()
        # In a copy of the graph all that depends on the size alone is computed beforehand, such as attention biases.
        self.copies: ShapeCache[Call] = ShapeCache(self.load)
        self._general = self.load(None)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """
        Run it.

        Args:
            inputs (`np.ndarray`): Pixels, float32 (batch, channels, height, width), or pictures, uint8
                (batch, height, width, 3), as the folder's export.json says.

        Returns:
            `np.ndarray`: logits (batch, num_labels, rows, columns) or labels (batch, height, width), of its own.

        Raises:
            ValueError: If the folder was exported for one size, and this is another.
        """
        if self.settings.size is not None:
            size = self._size(inputs.shape)
            if (len(inputs), *size) != (1, *self.settings.size):
                raise ValueError(
                    f"{self.folder} was exported for one input of {self.settings.size[0]}×{self.settings.size[1]} "
                    f"pixels at a time, and got {len(inputs)} of {size[0]}×{size[1]}: export it without a size."
                )
        with self._lock:
            return self._choose(inputs.shape)(inputs)

    def _size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of inputs of a shape."""
        return shape[1:3] if self.settings.include_preprocessing else shape[2:]

    def _choose(self, shape: tuple[int, ...]) -> Call:
        if self.settings.size is not None or math.prod(self._size(shape)) > _LARGEST_COPY:
            return self._general
        return self.copies.get(shape) or self._general

    def can_change_precision(self) -> bool:
        """Whether the engine can compute the same file in another type."""
        return False

    @abstractmethod
    def load(self, shape: tuple[int, ...] | None) -> Call | None:
        """Load the graph for one shape of input, or for all; None if the engine has nothing to gain from a shape."""


class OnnxRuntime(Runtime):
    """ONNX Runtime on the CPU, or with the package onnxruntime-gpu on `"cuda"`, see [`Runtime`]."""

    def load(self, shape: tuple[int, ...] | None) -> Call:
        """See [`Runtime`]."""
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
        return lambda inputs: session.run(None, {entry.name: inputs})[0]

    def _find_providers(self, onnxruntime: ModuleType) -> list[str]:
        """What ONNX Runtime calls the device, and the CPU for what the device cannot do."""
        needed = "CUDAExecutionProvider" if self.device.startswith("cuda") else "CPUExecutionProvider"
        available = onnxruntime.get_available_providers()
        if needed not in available:
            raise ValueError(
                f"device={self.device!r}, but the ONNX Runtime here runs on {', '.join(available)} alone: install "
                "onnxruntime-gpu, or use device='cpu'."
            )
        if needed == "CPUExecutionProvider":
            return [needed]
        index = int(self.device.partition(":")[2] or 0)
        return [(needed, {"device_id": index}), "CPUExecutionProvider"]


class OpenVino(Runtime):
    """
    OpenVINO on the CPU.

    Args:
        folder (`str` or `Path`), num_threads (`int`, *optional*): See [`Runtime`].
        precision (`str`, *optional*): Type of the arithmetic; a float32 folder can also be computed in bfloat16 and
            the other way round. Where a processor has no bfloat16 or float16, float32 is used.
        device (`str`, *optional*, defaults to `"cpu"`): `"cpu"`.
    """

    def __init__(
        self,
        folder: str | Path,
        num_threads: int | None = None,
        precision: str | None = None,
        device: str = "cpu",
    ):
        if device.partition(":")[0] != "cpu":
            raise ValueError(f"device={device!r}, but OpenVINO files run on the CPU alone here: use device='cpu'.")
        self._core = openvino_core()
        super().__init__(folder, num_threads, precision, device)

    def can_change_precision(self) -> bool:
        """See [`Runtime`]."""
        return "int8" not in (self.precision, self.settings.precision)

    def load(self, shape: tuple[int, ...] | None) -> Call:
        """See [`Runtime`]."""
        file = self.folder / self.settings.file
        with _errors_naming(file):
            model = self._core.read_model(file)
        if shape is not None:
            model.reshape(list(shape))
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _OPENVINO_TYPES[self.precision]}
        if self.num_threads is not None:
            options["INFERENCE_NUM_THREADS"] = self.num_threads
        request = self._core.compile_model(model, "CPU", options).create_infer_request()
        return lambda inputs: request.infer([np.ascontiguousarray(inputs)], share_inputs=True)[0]


@functools.cache
def openvino_core() -> Any:
    """
    The one `openvino.Core` of this process, which lives as long as it does.

    Each gives the thread that makes it a stack for signals, and takes it away when it ends: where several end in
    another order than the reverse, a signal such as the end of a child process finds no stack, and the process dies.

    Raises:
        ImportError: If OpenVINO is not installed.
    """
    return import_optional("openvino", "export", "OpenVINO files").Core()


class TorchProgram(Runtime):
    """A program of torch.export, run by PyTorch, see [`Runtime`]."""

    def load(self, shape: tuple[int, ...] | None) -> Call | None:
        """See [`Runtime`]."""
        import torch

        if shape is not None:
            return None
        from .program_check import check_program

        file = self.folder / self.settings.file
        check_program(file)
        # It reads some parts by pickle, which could run code, except where this is set.
        with patch_environment(TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"), _errors_naming(file):
            program = torch.export.load(file)
        if self.device != "cpu":
            program = torch.export.passes.move_to_device_pass(program, self.device)
        module = program.module()

        def call(inputs: np.ndarray) -> np.ndarray:
            pixels = torch.from_numpy(np.ascontiguousarray(inputs)).to(self.device)
            try:
                with torch.no_grad():
                    return module(pixels).cpu().numpy()
            except AssertionError as error:
                raise ValueError(
                    f"{self.folder} does not take {tuple(inputs.shape)} ({error}): programs of torch.export have a "
                    "smallest height and width; make pictures larger, or export for that size."
                ) from error

        return call


def load_runtime(
    folder: str | Path, num_threads: int | None = None, precision: str | None = None, device: str = "cpu"
) -> Runtime:
    """
    Load an exported folder with the engine that its format is for.

    Args:
        folder (`str` or `Path`): What `cgrseg export` wrote.
        num_threads (`int`, *optional*), precision (`str`, *optional*): See [`Runtime`].
        device (`str`, *optional*, defaults to `"cpu"`): Where to run; OpenVINO's files run on the CPU alone.

    Raises:
        ValueError: If the folder is no export, or does not fit what is asked for.
        ImportError: If the engine's package is not installed.
    """
    runtimes = {"onnx": OnnxRuntime, "openvino": OpenVino, "torch": TorchProgram}
    return runtimes[read_settings(folder).format](folder, num_threads, precision, device)
