# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Millions of photos on many machines, by Ray."""

from .runner import ClusterResult, segment_on_cluster

__all__ = ["ClusterResult", "segment_on_cluster"]
