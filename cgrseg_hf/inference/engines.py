# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What computes the network: PyTorch, compiled or not, ONNX Runtime or OpenVINO, behind one call.

An engine takes normalised pixels of any size and gives logits; it knows nothing of photos and label maps.
"""

import copy
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ..export.runtimes import load_runtime
from ..export.settings import is_export, read_settings
from ..export.shape_cache import ShapeCache
from ..model_loading import load_model
from ..optional import find_missing_packages
from ..precisions import PRECISIONS, full_name
from .engine_names import ENGINE_NAMES, EngineName

logger = logging.get_logger(__name__)

# What each needs besides PyTorch.
ENGINE_PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": (),
    "compile": (),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino",),
}

_FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}
_ENGINES = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}


class Engine(ABC):
    """
    A network ready to run.

    Attributes:
        name (`str`): `"torch"`, `"compile"`, `"onnxruntime"` or `"openvino"`.
        device (`torch.device`): Where the logits come out.
        dtype (`torch.dtype`): The type of the network's arithmetic; `torch.int8` for a quantised export.
        config (`PreTrainedConfig`): The model's configuration.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    config: PreTrainedConfig

    @abstractmethod
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Run the network.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`):
                Normalised pixels, float32, on any device.

        Returns:
            `torch.Tensor` of shape `(batch, num_labels, ceil(height / 8), ceil(width / 8))`: logits in float32, on the
            engine's device; no later call writes into them.
        """


class TorchEngine(Engine):
    """
    PyTorch as it is: the model's inference form where it has one. Calls from several threads take turns.

    Args:
        model (`PreTrainedModel`): The model. It stays as it is.
        device (`str` or `torch.device`): Where to run.
        dtype (`torch.dtype`): Type of the arithmetic.
    """

    name = "torch"

    def __init__(self, model: PreTrainedModel, device: str | torch.device, dtype: torch.dtype):
        self.config = model.config
        self.device = torch.device(device)
        self.dtype = dtype
        self._lock = threading.Lock()
        self._network = _make_network(model, self.device, dtype)
        self._graphs = _CudaGraphs(self._network, self.device) if self.device.type == "cuda" else None

    @torch.inference_mode()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See [`Engine`]."""
        pixel_values = pixel_values.to(self.device, non_blocking=pixel_values.is_pinned())
        with self._lock:
            return self._run(pixel_values).float()

    def _run(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return (self._graphs or self._network)(pixel_values)


class CompiledEngine(TorchEngine):
    """
    PyTorch through `torch.compile`: the first call of each of the first sizes takes a minute or so.

    Args:
        model (`PreTrainedModel`): The model. It stays as it is.
        device (`str` or `torch.device`): Where to run.
        dtype (`torch.dtype`): Type of the arithmetic.
    """

    name = "compile"

    def __init__(self, model: PreTrainedModel, device: str | torch.device, dtype: torch.dtype):
        super().__init__(model, device, dtype)
        mode = "reduce-overhead" if self.device.type == "cuda" else None
        self._compiled = torch.compile(self._network, mode=mode)

    def _run(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # A compiled CUDA graph writes into the same memory in every call.
        logits = self._compiled(pixel_values)
        return logits.clone() if self.device.type == "cuda" else logits


class _Network(torch.nn.Module):
    """A model as a function from pixels to logits, in a type of its own."""

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values.to(self.dtype)).logits


def _make_network(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> _Network:
    # Another model is copied: the caller's stays on its device, in its type and mode.
    model = model.optimize_for_inference() if hasattr(model, "optimize_for_inference") else copy.deepcopy(model)
    network = _Network(model.eval().requires_grad_(False), dtype).to(device, dtype)
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network


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


class ExportedEngine(Engine):
    """
    A folder that `cgrseg export` wrote, with the engine that it is for.

    Args:
        folder (`str` or `Path`): The folder.
        device (`str` or `torch.device`): Where to run.
        dtype (`torch.dtype`, *optional*): Type of the arithmetic, if another than the folder's is possible.
        num_threads (`int`, *optional*): Processor cores to use.

    Raises:
        ValueError: If the export takes pictures or gives label maps, or does not fit what is asked for.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str | torch.device,
        dtype: torch.dtype | None = None,
        num_threads: int | None = None,
    ):
        settings = read_settings(folder)
        if settings.include_preprocessing or settings.include_argmax:
            raise ValueError(
                f"{folder} takes {settings.input_name} and gives {settings.output_name}; engines, the Segmenter and "
                "pipelines need a file that takes pixel_values and gives logits: export without preprocessing and "
                "argmax."
            )
        precision = None if dtype is None else str(dtype).removeprefix("torch.")
        self._runtime = load_runtime(folder, num_threads, precision, str(device))
        self.name = _ENGINES[settings.format]
        self.device = torch.device(device)
        self.dtype = getattr(torch, self._runtime.precision)
        self.config = AutoConfig.from_pretrained(folder)

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See [`Engine`]."""
        return torch.from_numpy(self._runtime(pixel_values.cpu().numpy())).to(self.device)


def make_engine(
    source: PreTrainedModel | str | Path,
    engine: EngineName = "auto",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    num_threads: int | None = None,
) -> Engine:
    """
    Make the engine that runs a model.

    ONNX Runtime and OpenVINO need the model as a file. It is exported when it is first asked for, which takes up to a
    minute, and kept in the Hugging Face cache.

    Args:
        source (`PreTrainedModel`, `str` or `Path`):
            A model, the folder or Hub id of one, or a folder that `cgrseg export` wrote.
        engine (`str`, *optional*, defaults to `"auto"`):
            `"torch"`, `"compile"`, `"onnxruntime"` or `"openvino"`. By default, on a CPU the first of OpenVINO, ONNX
            Runtime and PyTorch that is installed, or PyTorch if the model cannot be exported; on a GPU and for models
            other than CGRSeg PyTorch; for an exported folder the engine that runs it.
        device (`str` or `torch.device`, *optional*):
            Where to run. By default the first GPU if there is one and the engine can use it, else the CPU.
        dtype (`str` or `torch.dtype`, *optional*):
            Type of the arithmetic: float32, bfloat16 or float16. By default float32; for an exported folder the type
            that it was exported with.
        num_threads (`int`, *optional*):
            Processor cores to use. With `"torch"` and `"compile"` this holds for the whole process.

    Returns:
        [`Engine`]: the engine.

    Raises:
        ValueError: If the engine, device or type does not exist or does not fit the source.
        ImportError: If the engine's package is not installed.
    """
    if engine not in ENGINE_NAMES:
        raise ValueError(f"Unknown engine={engine!r}: use one of {', '.join(map(repr, ENGINE_NAMES))}.")
    dtype = _resolve_dtype(dtype)
    if is_export(source):
        return _open_export(source, engine, device, dtype, num_threads)
    device = resolve_device(engine, device)
    if not isinstance(source, PreTrainedModel):
        source = load_model(source, dtype=torch.float32)
    dtype = dtype or torch.float32
    if engine == "auto":
        engine = _choose_engine(source, device, dtype)
        if engine in _FORMATS:
            try:
                return _export_and_open(source, engine, device, dtype, num_threads)
            except (OSError, ValueError, RuntimeError) as error:
                logger.warning("%s is not used, since the model cannot be exported here: %s", engine, error)
                engine = "torch"
    if engine in _FORMATS:
        return _export_and_open(source, engine, device, dtype, num_threads)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return (CompiledEngine if engine == "compile" else TorchEngine)(source, device, dtype)


def _export_and_open(
    model: PreTrainedModel, engine: str, device: torch.device, dtype: torch.dtype, num_threads: int | None
) -> Engine:
    from .export_cache import find_or_make_export

    folder = find_or_make_export(model, _FORMATS[engine], str(dtype).removeprefix("torch."))
    return ExportedEngine(folder, device, None, num_threads)


def _open_export(
    folder: str | Path,
    engine: str,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    num_threads: int | None,
) -> Engine:
    needed = _ENGINES[read_settings(folder).format]
    if engine not in ("auto", needed):
        raise ValueError(f"engine={engine!r}, but {folder} is for engine={needed!r}.")
    if needed == "torch" and num_threads is not None:
        torch.set_num_threads(num_threads)
    return ExportedEngine(folder, resolve_device(needed, device), dtype, num_threads)


def _choose_engine(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cpu" or not hasattr(model, "optimize_for_inference"):
        return "torch"
    # ONNX Runtime computes in float32 alone on CPUs.
    candidates = ("openvino", "onnxruntime") if dtype == torch.float32 else ("openvino",)
    return next((name for name in candidates if not find_missing_packages(ENGINE_PACKAGES[name])), "torch")


def resolve_device(engine: str, device: str | torch.device | None) -> torch.device:
    """
    The device that is meant, by default a GPU where there is one that the engine can use.

    Raises:
        ValueError: If it cannot be used here.
    """
    if device is None:
        can_use_gpu = engine in ("auto", "torch", "compile")
        device = "cuda" if can_use_gpu and torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(device)
        torch.empty(0, device=device if device.type != "cuda" else "cpu")
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"device={str(device)!r} cannot be used here: use 'cpu', or 'cuda' for a GPU.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={str(device)!r}, but PyTorch finds no CUDA device here: use device='cpu'.")
    return device


def _resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None:
        return None
    name = full_name(str(dtype).removeprefix("torch."))
    if name not in PRECISIONS:
        raise ValueError(f"dtype={dtype!r} is not supported: use one of {', '.join(map(repr, PRECISIONS))}.")
    return getattr(torch, name)
