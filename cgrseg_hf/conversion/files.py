# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Reading checkpoint files: tensors only, never code."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def read_checkpoint(source: str | os.PathLike | Mapping[str, Any]) -> dict[str, Any]:
    """
    The content of a `.safetensors`, `.pth`, `.pt` or `.bin` file, or a copy of a mapping that was read already.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, or holds more than tensors and plain values.
    """
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint file at {path}: give the path of a .pth or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than tensors and plain values, or is no PyTorch file, and is not loaded, since "
            "unpickling it could run code. If you trust it, load it with your own tools and pass on its state dict."
        ) from None
    except Exception as error:  # a damaged file can fail in many ways, all of which mean this
        raise ValueError(f"{path} could not be read as a checkpoint: {error}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return dict(content)


def find_state_dict(checkpoint: Mapping[str, Any], *keys: str) -> dict[str, torch.Tensor]:
    """
    The tensors of a checkpoint, under the first of `keys` that it has or at its top, without a `module.` prefix.

    Raises:
        ValueError: If there are no tensors.
    """
    for key in keys:
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    tensors = {
        name.removeprefix("module."): tensor for name, tensor in checkpoint.items() if isinstance(tensor, torch.Tensor)
    }
    if not tensors:
        raise ValueError(f"The checkpoint holds no tensors; its keys are {sorted(map(str, checkpoint))[:10]}.")
    return tensors
