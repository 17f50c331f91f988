# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with Accelerate: recipes, the loop, and checkpoints to go on from."""

from typing import TYPE_CHECKING

from ..lazy_attributes import import_when_used
from .config import TrainingConfig, load_recipe, recipe_names

if TYPE_CHECKING:
    from .faults import TrainingStoppedError
    from .loop import TrainingResult, train

__all__ = ["TrainingConfig", "TrainingResult", "TrainingStoppedError", "load_recipe", "recipe_names", "train"]


# The loop needs torchvision and all of PyTorch; recipes can be read without.
__getattr__ = import_when_used(__name__, {"TrainingResult": "loop", "TrainingStoppedError": "faults", "train": "loop"})
