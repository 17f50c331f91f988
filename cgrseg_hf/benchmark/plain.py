# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Engines that run a model as it is, without what this package does for speed: what the rest is compared to."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ..engines.engine import Engine
from ..engines.runtimes import openvino_core
from ..utils.optional import import_optional


class PlainTorch(Engine):
    """
    PyTorch, eager or compiled.

    Args:
        model (`PreTrainedModel`): The model. It stays as it is.
        device (`torch.device`): Where to run.
        dtype (`torch.dtype`): Type of the arithmetic.
        compiled (`bool`, *optional*, defaults to `False`): Whether `torch.compile` comes first.
    """

    def __init__(self, model: PreTrainedModel, device: torch.device, dtype: torch.dtype, compiled: bool = False):
        self.name = "compile" if compiled else "torch"
        self.device, self.dtype, self.config = device, dtype, model.config
        self.model = copy.deepcopy(model).to(device, dtype).eval()
        # As the inference form is compiled, so that only the form differs.
        mode = "reduce-overhead" if device.type == "cuda" else None
        self._run = torch.compile(self.model, mode=mode) if compiled else self.model

    @torch.inference_mode()
    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See [`Engine`]."""
        return self._run(pixel_values=pixel_values.to(self.device, self.dtype)).logits.float()


class PlainExport(Engine):
    """
    What `torch.onnx.export` makes of a model, on ONNX Runtime or OpenVINO, on CPUs.

    Args:
        files ([`PlainOnnxFiles`]): The model's exports.
        engine (`str`): `"onnxruntime"` or `"openvino"`.
        dtype (`torch.dtype`): Type of the arithmetic: float32, or bfloat16 with OpenVINO.
        num_threads (`int`): Processor cores to use.

    Raises:
        ValueError: If the engine cannot compute in this type.
        ImportError: If the engine's package, or onnx or onnxscript, is not installed.
    """

    device = torch.device("cpu")

    def __init__(self, files: "PlainOnnxFiles", engine: str, dtype: torch.dtype, num_threads: int):
        if dtype != torch.float32 and (engine, dtype) != ("openvino", torch.bfloat16):
            raise ValueError(f"A plain export does not run in {str(dtype).removeprefix('torch.')} on {engine}.")
        for package in ("onnx", "onnxscript", engine):
            import_optional(package, "export", "Exported models")
        self.name, self.dtype, self.config = engine, dtype, files.model.config
        self._files = files
        self._num_threads = num_threads
        self._sessions: dict[torch.Size, Callable[[torch.Tensor], torch.Tensor]] = {}

    def export(self, shape: torch.Size) -> None:
        """Make the file for an input of this shape, without loading it."""
        self._files.get(shape)

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See [`Engine`]."""
        session = self._sessions.get(pixel_values.shape)
        if session is None:
            load = _load_in_openvino if self.name == "openvino" else _load_in_onnxruntime
            session = load(self._files.get(pixel_values.shape), self._num_threads, self.dtype)
            self._sessions[pixel_values.shape] = session
        return session(pixel_values)


class PlainOnnxFiles:
    """
    What `torch.onnx.export` makes of a model, by shape of the input.

    The shape is fixed: no engine is slower with a fixed one. A file is made when it is first asked for.

    Args:
        model (`PreTrainedModel`): The model. It stays as it is.
    """

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self._folder = tempfile.TemporaryDirectory(prefix="cgrseg-benchmark-")
        self._files: dict[torch.Size, Path] = {}

    def get(self, shape: torch.Size) -> Path:
        """The file for `pixel_values` of this shape."""
        if shape not in self._files:
            file = Path(self._folder.name) / f"{'x'.join(map(str, shape))}.onnx"
            torch.onnx.export(_Logits(self.model).eval(), (torch.zeros(shape),), file, verbose=False)
            self._files[shape] = file
        return self._files[shape]


class _Logits(torch.nn.Module):
    """A model as a function from pixels to logits."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits


def _load_in_onnxruntime(file: Path, num_threads: int, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda pixel_values: torch.from_numpy(session.run(None, {name: pixel_values.numpy()})[0])


def _load_in_openvino(file: Path, num_threads: int, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": num_threads,
        # By default OpenVINO computes in bfloat16 where the processor can.
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
    }
    network = openvino_core().compile_model(file, "CPU", settings)
    return lambda pixel_values: torch.from_numpy(network(pixel_values.numpy(), share_inputs=True)[0])
