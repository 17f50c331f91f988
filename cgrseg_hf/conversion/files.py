# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Reading checkpoint files: tensors only, never code."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..utils.messages import one_line

# The first bytes, in lower case, of files that are mistaken for checkpoints.
_KINDS = {
    b"version https://git-lfs": "a pointer of Git LFS, which `git lfs pull` replaces by the file itself",
    b"<!doctype": "a web page, perhaps that of the download",
    b"<html": "a web page, perhaps that of the download",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89png": "a PNG image",
    b"\x89hdf": "an HDF5 file, as Keras writes them",
    b"\x1f\x8b": "a gzip archive, to be unpacked first",
    b"pk": "a zip archive that torch.save did not write, or a checkpoint that is cut off",
    b"\x80": "a pickle",
}
_PICKLED = (_KINDS[b"pk"], _KINDS[b"\x80"])
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_BYTES_LOOKED_AT = 1024


def read_checkpoint(source: str | os.PathLike | Mapping[str, Any]) -> dict[str, Any]:
    """
    Read a `.safetensors`, `.pth`, `.pt` or `.bin` file, or copy a mapping that was read already.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a checkpoint, or holds more than tensors and plain values.
        MemoryError: If there is not enough memory for it.
    """
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint file at {path}: pass the path of a .pth or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:  # not the file's fault
        raise
    except Exception as error:  # a damaged file can fail in many ways
        kind, is_unpickling = _guess_kind(path), isinstance(error, pickle.UnpicklingError)
        if is_unpickling and kind in _PICKLED:
            raise ValueError(
                f"{path} holds more than tensors and plain values, or is damaged, and is not loaded, since unpickling "
                "it could run code. If you trust it, load it with your own tools and pass on its state dict."
            ) from None
        # PyTorch's message on unpickling advises to allow it.
        cause = "" if is_unpickling else f" ({one_line(error) or type(error).__name__})"
        is_named_wrong = path.suffix not in _SUFFIXES or (path.suffix == ".safetensors" and kind in _PICKLED)
        ending = " and under its own ending" if is_named_wrong else ""
        raise ValueError(
            f"{path} could not be read as a checkpoint: it seems to be {kind}{cause}. Pass a file that torch.save "
            f"wrote (.pth, .pt, .bin), or one of safetensors (.safetensors), whole{ending}."
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict.")
    return dict(content)


def _guess_kind(path: Path) -> str:
    """Describe a file that is not a checkpoint by its first bytes."""
    with path.open("rb") as file:
        begin = file.read(_BYTES_LOOKED_AT)
    if not begin:
        return "empty"
    for magic, kind in _KINDS.items():
        if begin.lstrip().lower().startswith(magic):
            return kind
    if begin[8:9] == b"{":
        is_named_so = path.suffix == ".safetensors"
        return f"of safetensors, {'and damaged or cut off' if is_named_so else 'whose ending is .safetensors'}"
    return "text" if begin.isascii() else "damaged, or of an unknown kind"


def find_state_dict(checkpoint: Mapping[str, Any], *keys: str) -> dict[str, torch.Tensor]:
    """
    Find the tensors of a checkpoint, under the first of `keys` that it has or at its top, without `module.` prefixes.

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
