# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Helpers that know nothing of segmentation."""
