# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From photos to label maps. Each name is imported when it is first used."""

from typing import TYPE_CHECKING

from ..lazy_attributes import import_when_used

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


__getattr__ = import_when_used(__name__, _MODULE_OF_NAME)
