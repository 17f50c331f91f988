# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""CGRSeg for Hugging Face transformers.

Importing this package makes CGRSeg known to `AutoConfig`, `AutoModel`, `AutoModelForSemanticSegmentation`,
`AutoBackbone`, `AutoImageProcessor` and `pipeline`. It loads nothing heavy by itself: each name below is imported when
it is first used.
"""

from typing import TYPE_CHECKING

from ._registration import register_when_imported
from .lazy_attributes import import_when_used

if TYPE_CHECKING:
    from .configuration_cgrseg import CGRSegConfig, EfficientFormerV2Config
    from .image_processing_cgrseg import CGRSegImageProcessor, CGRSegImageProcessorPil
    from .modeling_cgrseg import CGRSegForSemanticSegmentation, CGRSegModel, CGRSegPreTrainedModel
    from .modeling_efficientformerv2 import EfficientFormerV2Backbone, EfficientFormerV2PreTrainedModel

__version__ = "0.1.0"

_MODULE_OF_NAME = {
    "CGRSegConfig": "configuration_cgrseg",
    "CGRSegForSemanticSegmentation": "modeling_cgrseg",
    "CGRSegImageProcessor": "image_processing_cgrseg",
    "CGRSegImageProcessorPil": "image_processing_cgrseg",
    "CGRSegModel": "modeling_cgrseg",
    "CGRSegPreTrainedModel": "modeling_cgrseg",
    "EfficientFormerV2Backbone": "modeling_efficientformerv2",
    "EfficientFormerV2Config": "configuration_cgrseg",
    "EfficientFormerV2PreTrainedModel": "modeling_efficientformerv2",
}

__all__ = [
    "CGRSegConfig",
    "CGRSegForSemanticSegmentation",
    "CGRSegImageProcessor",
    "CGRSegImageProcessorPil",
    "CGRSegModel",
    "CGRSegPreTrainedModel",
    "EfficientFormerV2Backbone",
    "EfficientFormerV2Config",
    "EfficientFormerV2PreTrainedModel",
]


__getattr__ = import_when_used(__name__, _MODULE_OF_NAME)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


register_when_imported()
