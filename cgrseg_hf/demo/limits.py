# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What a photo, and a stranger's model, may cost."""

import contextlib
import json
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.nn.modules.module import register_module_module_registration_hook
from transformers import AutoConfig, AutoModelForSemanticSegmentation

# Of a stranger's model: bytes of all its files, and of each one with settings; parameters, as many as such files hold
# in 16 bits; classes; modules, of which large models have one or two thousand. The numbers in its configuration are
# lengths and counts: those of real models add up to far less than this.
LARGEST_DOWNLOAD = 2 * 2**30
LARGEST_SETTINGS = 2**20
_MOST_PARAMETERS = LARGEST_DOWNLOAD // 2
_MOST_CLASSES = 1000
_MOST_MODULES = 10_000
_LARGEST_SUM = 10_000_000


@dataclass(frozen=True)
class Limits:
    """
    What one photo may cost.

    Args:
        max_pixels (`int`): Pixels that it may have, as it comes and as the network gets it.
        seconds (`float`): How long a visitor waits for its classes, once it is its turn.
        num_threads (`int`): Photos that are segmented at a time.
    """

    max_pixels: int = 16_000_000
    seconds: float = 60.0
    num_threads: int = 1


def check_model(folder: Path, max_pixels: int) -> None:
    """
    Refuse a stranger's model that would take the memory or the time of others, before its weights are made.

    Args:
        folder (`Path`): The model's files.
        max_pixels (`int`): Pixels that its image processor may make of a photo.

    Raises:
        ValueError: If it would.
    """
    settings = _read_settings(folder / "config.json")
    total = sum(_numbers(settings))
    if not total <= _LARGEST_SUM:
        raise ValueError(f"The numbers in its config.json add up to {total:.3g}, more than any model for photos needs.")
    num_classes = max(map(_count_classes, _dictionaries(settings)))
    if num_classes > _MOST_CLASSES:
        raise ValueError(f"It has {num_classes:,} classes, and this page takes models of up to {_MOST_CLASSES:,}.")
    for name, value in _read_settings(folder / "preprocessor_config.json").items():
        lengths = sorted(_numbers(value))[-2:]  # such as height and width
        pixels = math.prod(lengths) if len(lengths) == 2 else sum(lengths) ** 2
        if pixels > max_pixels:
            raise ValueError(
                f"Its image processor has {name}={str(value)[:100]}, which makes photos of more than the "
                f"{max_pixels:,} pixels that this page takes."
            )
    _check_parameters(folder)


def _read_settings(file: Path) -> dict[str, Any]:
    settings = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise ValueError(f"Its {file.name} holds no settings.")
    return settings


def _check_parameters(folder: Path) -> None:
    """Compare what the configuration describes with what the weights' files hold; neither is loaded."""
    held = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            held += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    config = AutoConfig.from_pretrained(folder)
    with _few_modules(), torch.device("meta"):
        model = AutoModelForSemanticSegmentation.from_config(config, dtype=torch.float32)
    needed = sum(one.numel() for one in model.parameters())
    if needed > held:
        raise ValueError(f"Its configuration describes {needed:,} parameters, and its files hold {held:,}.")
    needed += sum(one.numel() for one in model.buffers())
    if needed > _MOST_PARAMETERS:
        raise ValueError(f"It has {needed:,} parameters, and this page takes models of up to {_MOST_PARAMETERS:,}.")


@contextlib.contextmanager
def _few_modules() -> Iterator[None]:
    """Let this thread make so many modules and no more."""
    thread, count = threading.get_ident(), 0

    def hook(*_: Any) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > _MOST_MODULES:
            raise ValueError(f"Its configuration describes more than {_MOST_MODULES:,} modules.")

    handle = register_module_module_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _count_classes(settings: dict[str, Any]) -> int:
    counts = [len(settings.get(name) or ()) for name in ("id2label", "label2id")]
    return max(*counts, *(_numbers(settings.get("num_labels"))), 0)


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    """Settings, and those in them."""
    if isinstance(value, dict):
        yield value
    for one in _parts(value):
        yield from _dictionaries(one)


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in settings, without their signs."""
    if isinstance(value, int | float):
        yield abs(value)
    for one in _parts(value):
        yield from _numbers(one)


def _parts(value: Any) -> list:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
