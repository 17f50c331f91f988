# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The interface of everything that computes a network: normalised pixels in, logits out."""

from abc import ABC, abstractmethod

import torch
from transformers import PreTrainedConfig

from .names import PRECISIONS, full_name


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


def resolve_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """
    The type of arithmetic that a name or type stands for; None for None.

    Raises:
        ValueError: If networks are not computed in it.
    """
    if dtype is None:
        return None
    name = full_name(str(dtype).removeprefix("torch."))
    if name not in PRECISIONS:
        raise ValueError(f"dtype={dtype!r} is not supported: use one of {', '.join(map(repr, PRECISIONS))}.")
    return getattr(torch, name)
