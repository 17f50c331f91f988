# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""CGRSeg for Hugging Face transformers.

Importing this package makes CGRSeg known to `AutoConfig`, `AutoModel`, `AutoModelForSemanticSegmentation`,
`AutoBackbone`, `AutoImageProcessor` and `pipeline`. It imports nothing heavy: each public name, listed in
`__init__.pyi`, is imported when it is first used.
"""

import lazy_loader

from .utils.registration import register_when_imported

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register_when_imported()
