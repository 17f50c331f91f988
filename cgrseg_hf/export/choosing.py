# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The choice of an engine for a model. Choosing may make an export; running never does."""

from pathlib import Path

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from ..engines.engine import Engine, resolve_device, resolve_dtype
from ..engines.export_settings import is_export
from ..engines.exported_engine import open_export
from ..engines.names import ENGINE_NAMES, ENGINE_PACKAGES, EngineName
from ..engines.torch_engine import TorchEngine
from ..pretrained.loading import load_model
from ..utils.optional import find_missing_packages
from .cache import find_or_make_export

logger = logging.get_logger(__name__)

_FORMATS = {"onnxruntime": "onnx", "openvino": "openvino"}


def make_engine(
    source: PreTrainedModel | str | Path,
    engine: EngineName = "auto",
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    num_threads: int | None = None,
    *,
    trust_remote_code: bool = False,
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
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Allow an exported program of torch.export, which can run any code when it is loaded.

    Returns:
        [`Engine`]: the engine.

    Raises:
        ValueError: If the engine, device or type does not exist or does not fit the source.
        ImportError: If the engine's package is not installed.
    """
    if engine not in ENGINE_NAMES:
        raise ValueError(f"Unknown engine={engine!r}: use one of {', '.join(map(repr, ENGINE_NAMES))}.")
    dtype = resolve_dtype(dtype)
    if is_export(source):
        return open_export(source, engine, device, dtype, num_threads, trust_remote_code=trust_remote_code)
    device = resolve_device(engine, device)
    dtype = dtype or torch.float32
    if not isinstance(source, PreTrainedModel):
        source = load_model(source, dtype=torch.float32)
    chosen = _choose_engine(source, device, dtype) if engine == "auto" else engine
    if chosen in _FORMATS:
        try:
            folder = find_or_make_export(source, _FORMATS[chosen], str(dtype).removeprefix("torch."))
            return open_export(folder, chosen, device, num_threads=num_threads)
        except (OSError, ValueError, RuntimeError) as error:
            if engine != "auto":
                raise
            logger.warning("%s is not used, since the model cannot be exported here: %s", chosen, error)
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    return TorchEngine(source, device, dtype, compiled=chosen == "compile")


def _choose_engine(model: PreTrainedModel, device: torch.device, dtype: torch.dtype) -> str:
    if device.type != "cpu" or not hasattr(model, "optimize_for_inference"):
        return "torch"
    # ONNX Runtime computes in float32 alone on CPUs.
    candidates = ("openvino", "onnxruntime") if dtype == torch.float32 else ("openvino",)
    return next((name for name in candidates if not find_missing_packages(ENGINE_PACKAGES[name])), "torch")
