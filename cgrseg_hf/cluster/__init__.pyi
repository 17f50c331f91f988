# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .runner import ClusterResult as ClusterResult
from .runner import segment_on_cluster as segment_on_cluster
