# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Register CGRSeg with the Auto classes of transformers, whatever is imported first.

Registration needs our classes, and importing these takes seconds, since they need torch, while `import cgrseg_hf` has
to stay light. So it follows the import of the Auto classes. transformers imports some of them half-way through modules
that our classes need, and so do our own modules: registration waits until none of these is half imported.
"""

import functools
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from wrapt import register_post_import_hook

_PACKAGE = Path(__file__).parents[1]
_TRANSFORMERS = (
    *(f"models.auto.{name}" for name in ("configuration_auto", "modeling_auto", "image_processing_auto")),
    *("image_processing_backends", "image_processing_utils", "modeling_layers", "modeling_utils", "processing_utils"),
)
_WATCHED = (
    *(f"transformers.{name}" for name in _TRANSFORMERS),
    *(f"{_PACKAGE.name}.model.{module.name}" for module in pkgutil.iter_modules([str(_PACKAGE / "model")])),
)
_imported: set[str] = set()


@functools.cache  # once, though the package may be reloaded
def register_when_imported() -> None:
    """Register with those Auto classes that are imported already, and with the others right after their import."""
    for name in _WATCHED:
        register_post_import_hook(_register_if_complete, name)


def _register_if_complete(module: ModuleType) -> None:
    _imported.add(module.__name__)
    if _imported.issuperset(name for name in _WATCHED if name in sys.modules):
        _register()


def _register() -> None:
    if "transformers.models.auto.configuration_auto" not in _imported:  # which the other two import
        return
    from transformers import AutoConfig

    from ..model.configuration_cgrseg import CGRSegConfig, EfficientFormerV2Config

    for config_class in (CGRSegConfig, EfficientFormerV2Config):
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    if "transformers.models.auto.modeling_auto" in _imported:
        from transformers import AutoBackbone, AutoModel, AutoModelForSemanticSegmentation

        from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation, CGRSegModel
        from ..model.modeling_efficientformerv2 import EfficientFormerV2Backbone

        AutoModel.register(CGRSegConfig, CGRSegModel, exist_ok=True)
        AutoModelForSemanticSegmentation.register(CGRSegConfig, CGRSegForSemanticSegmentation, exist_ok=True)
        AutoBackbone.register(EfficientFormerV2Config, EfficientFormerV2Backbone, exist_ok=True)
    if "transformers.models.auto.image_processing_auto" in _imported:
        from transformers import AutoImageProcessor

        from ..model.image_processing_cgrseg import CGRSegImageProcessor, CGRSegImageProcessorPil

        classes = {"torchvision": CGRSegImageProcessor, "pil": CGRSegImageProcessorPil}
        AutoImageProcessor.register(CGRSegConfig, image_processor_classes=classes, exist_ok=True)
