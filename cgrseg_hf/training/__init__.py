# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Training with Accelerate: recipes, the loop, and checkpoints to go on from."""

from .config import TrainingConfig, load_recipe, recipe_names
from .loop import TrainingResult, TrainingStoppedError, train

__all__ = ["TrainingConfig", "TrainingResult", "TrainingStoppedError", "load_recipe", "recipe_names", "train"]
