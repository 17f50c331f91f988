# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of others to this package's models, and back.

Three namings are known: the reference code's (mmsegmentation), that of EfficientFormerV2's authors for their ImageNet
files, and timm's. Nothing outside this folder knows any of them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
