# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with Accelerate: recipes, the loop, and checkpoints to go on from."""

import importlib
from typing import TYPE_CHECKING, Any

from .config import TrainingConfig, load_recipe, recipe_names

if TYPE_CHECKING:
    from .faults import TrainingStoppedError
    from .loop import TrainingResult, train

__all__ = ["TrainingConfig", "TrainingResult", "TrainingStoppedError", "load_recipe", "recipe_names", "train"]


def __getattr__(name: str) -> Any:
    # The loop needs torchvision and all of PyTorch; recipes can be read without.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = ".faults" if name == "TrainingStoppedError" else ".loop"
    return getattr(importlib.import_module(module, __name__), name)
