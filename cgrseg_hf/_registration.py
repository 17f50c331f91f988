# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Makes CGRSeg known to transformers' auto classes, at the moment transformers itself loads them.

Registering needs the classes, and importing a model class costs seconds, since transformers then loads torch,
torchvision and accelerate. So `import cgrseg_hf` only leaves word with Python's import system: once one of
transformers' auto modules has been imported, its part of the registration follows.
"""

import importlib.abc
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


def _register_configurations() -> None:
    from transformers import AutoConfig

    from .configuration_cgrseg import CGRSegConfig, EfficientFormerV2Config

    for config_class in (CGRSegConfig, EfficientFormerV2Config):
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)


def _register_models() -> None:
    from transformers import AutoBackbone, AutoModel, AutoModelForSemanticSegmentation

    from .configuration_cgrseg import CGRSegConfig, EfficientFormerV2Config
    from .modeling_cgrseg import CGRSegForSemanticSegmentation, CGRSegModel
    from .modeling_efficientformerv2 import EfficientFormerV2Backbone

    AutoModel.register(CGRSegConfig, CGRSegModel, exist_ok=True)
    AutoModelForSemanticSegmentation.register(CGRSegConfig, CGRSegForSemanticSegmentation, exist_ok=True)
    AutoBackbone.register(EfficientFormerV2Config, EfficientFormerV2Backbone, exist_ok=True)


def _register_image_processors() -> None:
    from transformers import AutoImageProcessor

    from .configuration_cgrseg import CGRSegConfig
    from .image_processing_cgrseg import CGRSegImageProcessor, CGRSegImageProcessorPil

    classes = {"torchvision": CGRSegImageProcessor, "pil": CGRSegImageProcessorPil}
    AutoImageProcessor.register(CGRSegConfig, image_processor_classes=classes, exist_ok=True)


# What to do once which of transformers' modules has been imported.
_STEPS: dict[str, Callable[[], None]] = {
    "transformers.models.auto.configuration_auto": _register_configurations,
    "transformers.models.auto.modeling_auto": _register_models,
    "transformers.models.auto.image_processing_auto": _register_image_processors,
}
# Importing one of these can be what makes transformers import an auto module: then registration waits for its end.
_OWN_MODULES = {
    f"{__package__}.{name}"
    for name in ("configuration_cgrseg", "image_processing_cgrseg", "modeling_cgrseg", "modeling_efficientformerv2")
}


class _RegistrationFinder(importlib.abc.MetaPathFinder):
    """Finds the modules above where they are, and has the registration follow their import."""

    def __init__(self) -> None:
        self.due = {name for name in _STEPS if name in sys.modules}
        self.executing: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _STEPS and fullname not in _OWN_MODULES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        loader = spec.loader

        def execute_and_register(module: ModuleType) -> None:
            del loader.exec_module  # back to the loader's own
            self.executing.add(fullname)
            try:
                loader.exec_module(module)
            finally:
                self.executing.discard(fullname)
            if fullname in _STEPS:
                self.due.add(fullname)
            self.register()

        loader.exec_module = execute_and_register
        return spec

    def register(self) -> None:
        """Take the steps whose auto module is there, unless one of our modules is only half there."""
        while self.due and not self.executing & _OWN_MODULES:
            name = self.due.pop()
            try:
                _STEPS[name]()
            except BaseException:
                self.due.add(name)
                raise


def register_when_imported() -> None:
    """Register with the auto modules that are imported, and with the others as soon as they will be."""
    if not any(isinstance(finder, _RegistrationFinder) for finder in sys.meta_path):
        finder = _RegistrationFinder()
        sys.meta_path.insert(0, finder)
        finder.register()
