# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .config import TrainingConfig as TrainingConfig
from .config import load_recipe as load_recipe
from .config import recipe_names as recipe_names
from .loop import TrainingResult as TrainingResult
from .loop import train as train
from .stopping import TrainingStoppedError as TrainingStoppedError
