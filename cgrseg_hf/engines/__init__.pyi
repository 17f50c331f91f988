# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .engine import Engine as Engine
from .exported_engine import ExportedEngine as ExportedEngine
from .memory import keep_freed_memory as keep_freed_memory
from .torch_engine import PlainEngine as PlainEngine
from .torch_engine import TorchEngine as TorchEngine
