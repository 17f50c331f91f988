# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From photos to label maps."""

from .engines import Engine, make_engine

__all__ = ["Engine", "make_engine"]
