# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From photos to label maps. Each name is imported when it is first used."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engines import Engine, make_engine
    from .memory import keep_freed_memory
    from .pictures import UnreadablePictureError
    from .segmentation import Segmentation
    from .segmenter import Segmenter
    from .videos import Video, VideoWriter

_MODULE_OF_NAME = {
    "Engine": "engines",
    "Segmentation": "segmentation",
    "Segmenter": "segmenter",
    "UnreadablePictureError": "pictures",
    "Video": "videos",
    "VideoWriter": "videos",
    "keep_freed_memory": "memory",
    "make_engine": "engines",
}

__all__ = [
    "Engine",
    "Segmentation",
    "Segmenter",
    "UnreadablePictureError",
    "Video",
    "VideoWriter",
    "keep_freed_memory",
    "make_engine",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULE_OF_NAME[name]}", __name__), name)
