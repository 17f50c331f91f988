# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Run a network: pixel_values in, logits out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
