# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .model.configuration_cgrseg import CGRSegConfig as CGRSegConfig
from .model.configuration_cgrseg import EfficientFormerV2Config as EfficientFormerV2Config
from .model.image_processing_cgrseg import (
    CGRSegImageProcessor as CGRSegImageProcessor,
)
from .model.image_processing_cgrseg import (
    CGRSegImageProcessorPil as CGRSegImageProcessorPil,
)
from .model.modeling_cgrseg import (
    CGRSegForSemanticSegmentation as CGRSegForSemanticSegmentation,
)
from .model.modeling_cgrseg import (
    CGRSegModel as CGRSegModel,
)
from .model.modeling_cgrseg import (
    CGRSegPreTrainedModel as CGRSegPreTrainedModel,
)
from .model.modeling_efficientformerv2 import (
    EfficientFormerV2Backbone as EfficientFormerV2Backbone,
)
from .model.modeling_efficientformerv2 import (
    EfficientFormerV2PreTrainedModel as EfficientFormerV2PreTrainedModel,
)

__version__: str
