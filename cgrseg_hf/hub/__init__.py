# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Trained models to the Hugging Face Hub."""

from .pushing import Push, check_loading, push_folder

__all__ = ["Push", "check_loading", "push_folder"]
