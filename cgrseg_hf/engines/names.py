# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Names of what computes the network, for those who need no more of the engines."""

from typing import Literal, get_args

EngineName = Literal["auto", "torch", "compile", "onnxruntime", "openvino"]
ENGINE_NAMES: tuple[str, ...] = get_args(EngineName)

# What each needs besides PyTorch.
ENGINE_PACKAGES: dict[str, tuple[str, ...]] = {
    "torch": (),
    "compile": (),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript"),
    "openvino": ("openvino",),
}

PRECISIONS = ("float32", "bfloat16", "float16")

# Short names that people use, and Accelerate's.
_ALIASES = {"fp32": "float32", "no": "float32", "bf16": "bfloat16", "fp16": "float16"}


def full_name(precision: str) -> str:
    """The full name of a precision that may be given by a short one; any other text as it is."""
    return _ALIASES.get(precision, precision)
