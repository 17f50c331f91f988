# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .segmentation import Segmentation as Segmentation
from .segmenter import (
    Engine as Engine,
)
from .segmenter import (
    Segmenter as Segmenter,
)
from .segmenter import (
    UnreadableImageError as UnreadableImageError,
)
from .segmenter import (
    UnreadablePictureError as UnreadablePictureError,
)
from .segmenter import (
    keep_freed_memory as keep_freed_memory,
)
from .segmenter import (
    make_engine as make_engine,
)
from .videos import Video as Video
from .videos import VideoWriter as VideoWriter
