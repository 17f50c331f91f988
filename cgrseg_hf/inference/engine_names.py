# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Names of what computes the network, for those who need no more of the engines."""

from typing import Literal, get_args

EngineName = Literal["auto", "torch", "compile", "onnxruntime", "openvino"]
ENGINE_NAMES: tuple[str, ...] = get_args(EngineName)
