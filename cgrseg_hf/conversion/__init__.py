# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of others to this package's models, and back.

Three namings are known: the reference code's (mmsegmentation), that of EfficientFormerV2's authors for their ImageNet
files, and timm's. Nothing outside this folder knows any of them.
"""

from .imagenet import ImageNetReport, load_imagenet_backbone
from .official import from_official, to_official

__all__ = ["ImageNetReport", "from_official", "load_imagenet_backbone", "to_official"]
