# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""CGRSeg: Context-Guided Spatial Feature Reconstruction for Efficient Semantic Segmentation.

Paper: ECCV 2024, arXiv 2405.06228. An implementation of its own that computes what the authors' released code
(Apache-2.0, on mmsegmentation 0.27) computes.

Shapes in comments are (batch, channels, height, width) unless they say otherwise.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from transformers import AutoBackbone, PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES
from transformers.utils.generic import can_return_tuple

from .configuration_cgrseg import CGRSegConfig, EfficientFormerV2Config
from .geometry_cgrseg import FEATURE_STRIDES, crop_to_image, find_image_sizes, pad_to_size_divisor
from .modeling_efficientformerv2 import (
    EfficientFormerV2Backbone,
    LayerScale,
    SafeLoadingMixin,
    checkpoint_with_single_statistics_update,
    initialize_convolution_or_scale,
)
from .optimized_cgrseg import CGRSegForInference
from .post_processing_cgrseg import CGRSegSemanticSegmenterOutput, resize_logits


class StripConvolution(nn.Conv2d):
    """
    A depthwise 1×k convolution of the sum of a column and a row, without ever forming the sum's picture.

    Where the sum is u(y) + v(x) inside the picture and 0 outside, convolving along x gives u(y) times the sum of the
    taps that fall inside, plus the convolution of v: two convolutions of one row instead of one of every row. Exact.
    """

    def __init__(self, num_channels: int, kernel_size: int):
        super().__init__(
            num_channels, num_channels, (1, kernel_size), padding=(0, kernel_size // 2), groups=num_channels
        )

    def forward(self, column: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, 1) and (batch, channels, 1, width) to (batch, channels, height, width)."""
        ones = torch.ones_like(row[:1, :1])
        taps_inside = nn.functional.conv2d(ones, self.weight, padding=self.padding)  # (1, channels, 1, width)
        return column * taps_inside + super().forward(row)


class RectangularSelfCalibrationAttention(nn.Module):
    """
    Weigh local features by a rectangular attention region, calibrated by strip convolutions (paper: RCA).
    """

    def __init__(self, config: CGRSegConfig, num_channels: int):
        super().__init__()
        strip, square = config.strip_kernel_size, config.square_kernel_size
        self.horizontal_strip = StripConvolution(num_channels, strip)
        self.normalization = nn.BatchNorm2d(num_channels, eps=config.batch_norm_eps)
        self.activation = nn.ReLU()
        self.vertical_strip = nn.Conv2d(
            num_channels, num_channels, (strip, 1), padding=(strip // 2, 0), groups=num_channels
        )
        self.local = nn.Conv2d(num_channels, num_channels, square, padding=square // 2, groups=num_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        column = hidden_states.mean(dim=3, keepdim=True)  # (batch, channels, height, 1)
        row = hidden_states.mean(dim=2, keepdim=True)  # (batch, channels, 1, width)
        region = self.activation(self.normalization(self.horizontal_strip(column, row)))
        attention = self.vertical_strip(region).sigmoid()
        return attention * self.local(hidden_states)


class RectangularSelfCalibrationModule(GradientCheckpointingLayer):
    """Rectangular self-calibration attention, batch normalisation and an MLP, residual (paper: RCM)."""

    def __init__(self, config: CGRSegConfig, num_channels: int):
        super().__init__()
        expanded = int(num_channels * config.mlp_ratio)
        self.attention = RectangularSelfCalibrationAttention(config, num_channels)
        self.normalization = nn.BatchNorm2d(num_channels, eps=config.batch_norm_eps)
        self.expansion = nn.Conv2d(num_channels, expanded, kernel_size=1)
        self.activation = ACT2FN[config.hidden_act]
        self.projection = nn.Conv2d(expanded, num_channels, kernel_size=1)
        self.layer_scale = LayerScale(num_channels, config.layer_scale_init_value)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        output = self.normalization(self.attention(hidden_states))
        output = self.projection(self.activation(self.expansion(output)))
        return hidden_states + self.layer_scale(output)


class PyramidContext(nn.Module):
    """Context for every scale, from all scales pooled to half of the coarsest one's size."""

    def __init__(self, config: CGRSegConfig, channels: list[int]):
        super().__init__()
        self.channels = channels
        num_blocks = config.num_pyramid_blocks if config.use_rcm_in_pyramid_context else 0
        self.blocks = nn.ModuleList(RectangularSelfCalibrationModule(config, sum(channels)) for _ in range(num_blocks))

    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Features of strides 8, 16 and 32 to one context of about stride 64 for each."""
        size = [(length + 1) // 2 for length in features[-1].shape[-2:]]
        pooled = [nn.functional.adaptive_avg_pool2d(feature, size) for feature in features]
        context = torch.cat(pooled, dim=1)  # (batch, C2 + C3 + C4, height/64, width/64)
        for block in self.blocks:
            context = block(context)
        return context.split(self.channels, dim=1)


class ContextFusion(nn.Module):
    """Project one scale's features and gate them by its context."""

    def __init__(self, config: CGRSegConfig, num_channels: int):
        super().__init__()
        hidden_size = config.decoder_hidden_size
        self.feature_projection = nn.Conv2d(num_channels, hidden_size, kernel_size=1, bias=False)
        self.feature_normalization = nn.BatchNorm2d(hidden_size, eps=config.batch_norm_eps)
        self.context_projection = nn.Conv2d(num_channels, hidden_size, kernel_size=1, bias=False)
        self.context_normalization = nn.BatchNorm2d(hidden_size, eps=config.batch_norm_eps)

    def forward(self, features: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """(batch, C, height, width) and (batch, C, context height, context width) to (batch, D, height, width)."""
        features = self.feature_normalization(self.feature_projection(features))
        gate = nn.functional.hardsigmoid(self.context_normalization(self.context_projection(context)))
        gate = nn.functional.interpolate(gate, size=features.shape[-2:], mode="bilinear", align_corners=False)
        return features * gate


class SpatialFeatureReconstruction(nn.Module):
    """From coarse to fine: calibrate each scale, fuse it with its context, add it to the next."""

    def __init__(self, config: CGRSegConfig, channels: list[int]):
        super().__init__()
        self.calibrations = nn.ModuleList(
            RectangularSelfCalibrationModule(config, num_channels)
            if config.use_rcm_in_reconstruction
            else nn.Identity()
            for num_channels in channels
        )
        self.fusions = nn.ModuleList(ContextFusion(config, num_channels) for num_channels in channels)
        # One for each scale but the coarsest.
        self.lateral_projections = nn.ModuleList(
            nn.Conv2d(config.decoder_hidden_size, num_channels, kernel_size=1) for num_channels in channels[:-1]
        )

    def forward(self, features: list[torch.Tensor], contexts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Features of strides 8, 16 and 32 and their contexts to (batch, D, height/8, width/8)."""
        reconstructed = None
        for scale in reversed(range(len(features))):
            hidden_states = features[scale]
            if reconstructed is not None:
                # A 1×1 convolution and bilinear upsampling may change places: at the coarse size it costs a quarter.
                coarse = self.lateral_projections[scale](reconstructed)
                hidden_states = hidden_states + nn.functional.interpolate(
                    coarse, size=hidden_states.shape[-2:], mode="bilinear", align_corners=False
                )
            reconstructed = self.fusions[scale](self.calibrations[scale](hidden_states), contexts[scale])
        return reconstructed


class DynamicPrototypeGuidedHead(nn.Module):
    """
    Classify pixels, with features gated by a prototype that a first, coarse prediction gathers (paper: DPG head).
    """

    def __init__(self, config: CGRSegConfig):
        super().__init__()
        hidden_size = config.decoder_hidden_size
        self.coarse_convolution = nn.Conv2d(hidden_size, hidden_size, kernel_size=1, groups=hidden_size, bias=False)
        self.coarse_normalization = nn.BatchNorm2d(hidden_size, eps=config.batch_norm_eps)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout2d(config.classifier_dropout_prob)
        self.classifier = nn.Conv2d(hidden_size, config.num_labels, kernel_size=1)
        self.use_prototype = config.use_dynamic_prototype_head
        if self.use_prototype:
            self.class_score = nn.Linear(hidden_size, 1)
            self.gate_reduction = nn.Linear(hidden_size, hidden_size)
            self.gate_normalization = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
            self.gate_projection = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, D, height, width) to logits (batch, num_labels, height, width)."""
        coarse = self.activation(self.coarse_normalization(self.coarse_convolution(hidden_states)))
        coarse_logits = self.classifier(self.dropout(coarse))
        if not self.use_prototype:
            return coarse_logits
        gate = self.gate(self.prototype(hidden_states, coarse_logits))  # (batch, D)
        return self.classifier(self.dropout(hidden_states * gate[:, :, None, None] + hidden_states))

    def prototype(self, hidden_states: torch.Tensor, coarse_logits: torch.Tensor) -> torch.Tensor:
        """The dynamic prototype (batch, D): a weighted sum of the features that each class gathers."""
        weights = coarse_logits.flatten(2).softmax(dim=2)  # (batch, classes, pixels), over pixels
        class_embeddings = weights @ hidden_states.flatten(2).transpose(1, 2)  # (batch, classes, D)
        class_weights = self.class_score(class_embeddings).softmax(dim=1)  # (batch, classes, 1), over classes
        return (class_embeddings * class_weights).sum(dim=1)

    def gate(self, prototype: torch.Tensor) -> torch.Tensor:
        """A factor in 0 to 1 for each channel, (batch, D)."""
        hidden_states = self.activation(self.gate_normalization(self.gate_reduction(prototype)))
        return self.gate_projection(hidden_states).sigmoid()


class CGRSegPreTrainedModel(SafeLoadingMixin, PreTrainedModel):
    """Weight initialisation and loading for CGRSeg."""

    config: CGRSegConfig
    base_model_prefix = "cgrseg"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    # The loss is a mean over pixels: Trainer must divide it by the number of accumulation steps.
    accepts_loss_kwargs = False
    _no_split_modules = [
        "EfficientFormerV2Layer",
        "EfficientFormerV2Downsample",
        "PyramidContext",
        "SpatialFeatureReconstruction",
        "DynamicPrototypeGuidedHead",
    ]
    _supports_sdpa = True
    _can_compile_fullgraph = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        initialize_convolution_or_scale(module)
        # By identity: transformers shows this method no module that has no parameters of its own, such as the head.
        head = getattr(self, "head", None)
        if module is getattr(head, "classifier", None):
            init.normal_(module.weight, std=self.config.classifier_initializer_range)
            init.zeros_(module.bias)
        elif module is getattr(head, "gate_projection", None):
            init.zeros_(module.weight)
            init.zeros_(module.bias)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers guesses from this file's text, and takes the rectangular attention for its own kind.
        return True

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = torch.utils.checkpoint.checkpoint, **kwargs
    ) -> None:
        checkpointing_func = checkpoint_with_single_statistics_update(self, gradient_checkpointing_func)
        super()._set_gradient_checkpointing(enable, checkpointing_func, **kwargs)


class CGRSegModel(CGRSegPreTrainedModel):
    """CGRSeg without its head: backbone, pyramid context and spatial feature reconstruction."""

    _auto_class = "AutoModel"

    def __init__(self, config: CGRSegConfig):
        super().__init__(config)
        # As remote code, EfficientFormerV2 is in none of AutoBackbone's registries.
        if config.backbone_config.model_type == EfficientFormerV2Config.model_type:
            self.backbone = EfficientFormerV2Backbone(config.backbone_config)
        else:
            self.backbone = AutoBackbone.from_config(config.backbone_config)
        channels = list(self.backbone.channels)
        self.pyramid_context = PyramidContext(config, channels)
        self.reconstruction = SpatialFeatureReconstruction(config, channels)
        self.post_init()
        self.train(self.training)

    def train(self, mode: bool = True) -> "CGRSegModel":
        """Switch between training and evaluation; frozen batch normalisations stay in evaluation mode."""
        super().train(mode)
        if self.config.freeze_backbone_batch_norm:
            for module in self.backbone.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        image_sizes: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BaseModelOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`):
                Normalised pixels of any size from 1×1 on.
            image_sizes (`torch.LongTensor` of shape `(batch, 2)`, *optional*):
                Not used; taken so that the image processor's batch can be passed on whole.
            output_hidden_states (`bool`, *optional*):
                Return the backbone's stem output and stage outputs too.
            output_attentions (`bool`, *optional*):
                Return the backbone's attention weights too.

        Returns:
            `BaseModelOutput`: `last_hidden_state` of shape `(batch, D, height / 8, width / 8)`, where height and width
            are those of the input after padding to multiples of 32.

        Raises:
            ValueError: If `pixel_values` has other than four dimensions, or the backbone's features have other
                strides than 8, 16 and 32.
        """
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        padded = pad_to_size_divisor(pixel_values)
        outputs = self.backbone.forward_with_filtered_kwargs(
            padded, output_hidden_states=output_hidden_states, output_attentions=output_attentions
        )
        features = list(outputs.feature_maps)
        if not torch.compiler.is_compiling():
            self._check_strides(padded, features)
        hidden_states = self.reconstruction(features, self.pyramid_context(features))
        return BaseModelOutput(
            last_hidden_state=hidden_states,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _check_strides(self, padded: torch.Tensor, features: list[torch.Tensor]) -> None:
        sizes = [tuple(feature.shape[-2:]) for feature in features]
        if sizes != [tuple(length // stride for length in padded.shape[-2:]) for stride in FEATURE_STRIDES]:
            raise ValueError(
                f"The backbone made features of height and width {sizes} from {tuple(padded.shape[-2:])} pixels; "
                f"CGRSeg needs strides {FEATURE_STRIDES}: choose other out_features or out_indices in backbone_config "
                f"(now {self.backbone.out_features})."
            )


def semantic_segmentation_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    ignore_index: int,
    image_size: tuple[int, int] | None = None,
    class_weights: torch.Tensor | None = None,
    reduction: Literal["sum", "all", "valid"] = "sum",
) -> torch.Tensor:
    """
    Compute the cross-entropy of each pixel, at the labels' size.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels, logits_height, logits_width)`):
            Class scores.
        labels (`torch.Tensor` of shape `(batch, height, width)`):
            Class of each pixel, of any integer type.
        ignore_index (`int`):
            Label of pixels that do not count.
        image_size (`tuple[int, int]`, *optional*):
            Height and width of the image in the model's input, for logits that may reach beyond it. `None` for logits
            that cover the image exactly.
        class_weights (`torch.Tensor` of shape `(num_labels,)`, *optional*):
            How much a pixel of each class counts.
        reduction (`str`, *optional*, defaults to `"sum"`):
            `"sum"` over the pixels, so that the parts of a larger batch can be added; the sum divided by the number of
            all pixels (`"all"`), or by [`loss_weight`] (`"valid"`), which is 0 where every pixel is ignored.

    Returns:
        `torch.Tensor`: a scalar.
    """
    logits = resize_logits(logits.float(), image_size, tuple(labels.shape[-2:]))
    summed = nn.functional.cross_entropy(
        logits, labels.long(), weight=class_weights, ignore_index=ignore_index, reduction="sum"
    )
    if reduction == "sum":
        return summed
    if reduction == "all":
        return summed / labels.numel()
    return summed / loss_weight(labels, ignore_index, class_weights).clamp(min=1).to(summed)


def loss_weight(labels: torch.Tensor, ignore_index: int, class_weights: torch.Tensor | None = None) -> torch.Tensor:
    """Count the pixels of `labels` that are not ignored, each as much as its class weighs: a scalar."""
    is_valid = labels != ignore_index
    if class_weights is None:
        return is_valid.sum()
    pixels = torch.bincount(labels[is_valid].int(), minlength=len(class_weights)).double()
    return pixels @ class_weights.to(pixels)


class CGRSegForSemanticSegmentation(CGRSegPreTrainedModel):
    """CGRSeg with its dynamic prototype guided head, for semantic segmentation."""

    _auto_class = "AutoModelForSemanticSegmentation"

    def __init__(self, config: CGRSegConfig):
        super().__init__(config)
        self.cgrseg = CGRSegModel(config)
        self.head = DynamicPrototypeGuidedHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.LongTensor | None = None,
        image_sizes: torch.LongTensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> CGRSegSemanticSegmenterOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`):
                Normalised pixels of any size from 1×1 on.
            labels (`torch.LongTensor` of shape `(batch, height, width)`, *optional*):
                Class of each pixel, in 0 to `num_labels - 1` or `semantic_loss_ignore_index`. Another height and
                width than the pixels' are taken for the same picture at another size.
            image_sizes (`torch.LongTensor` of shape `(batch, 2)`, *optional*):
                Height and width of each image without its padding, from the image processor; handed on to
                `post_process_semantic_segmentation`. By default those of `pixel_values`.
            output_hidden_states (`bool`, *optional*):
                Return the backbone's stem output and stage outputs too.
            output_attentions (`bool`, *optional*):
                Return the backbone's attention weights too.

        Returns:
            `CGRSegSemanticSegmenterOutput`: with `logits` of shape
            `(batch, num_labels, ceil(height / 8), ceil(width / 8))`.

        Raises:
            ValueError: If `pixel_values` has other than four dimensions, or `labels` on the CPU hold a class that
                does not exist.

        Example:

        ```python
        >>> import torch
        >>> from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation

        >>> model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset("xs", num_labels=11)).eval()
        >>> with torch.no_grad():
        ...     logits = model(torch.zeros(1, 3, 97, 211)).logits
        >>> tuple(logits.shape)
        (1, 11, 13, 27)
        ```"""
        if labels is not None:
            self._check_labels(labels)
        outputs = self.cgrseg(
            pixel_values,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            return_dict=True,
        )
        padded_logits = self.head(outputs.last_hidden_state)

        loss = None
        if labels is not None:
            loss = semantic_segmentation_loss(
                padded_logits,
                labels,
                self.config.semantic_loss_ignore_index,
                image_size=tuple(pixel_values.shape[-2:]),
                reduction=self.config.loss_normalization,
            )
        return CGRSegSemanticSegmenterOutput(
            loss=loss,
            logits=crop_to_image(padded_logits, pixel_values),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_sizes=find_image_sizes(pixel_values) if image_sizes is None else image_sizes,
        )

    def optimize_for_inference(self) -> CGRSegForInference:
        """
        Arrange a copy of this model for fast inference.

        Batch normalisations, layer scales and the head's gate are folded into convolutions, attention biases are
        resized once for each size of input, and on CPUs convolutions run channels-last by fused kernels. Nothing
        changes in this model.

        Returns:
            `CGRSegForInference`: called like this model, without labels; its logits are the same within 1e-4 in
            float32. `.to(torch.bfloat16)` makes it faster where the processor has bfloat16.
        """
        return CGRSegForInference(self)

    def _check_labels(self, labels: torch.Tensor) -> None:
        """Name a class that does not exist; on an accelerator, looking would make it wait."""
        if self.config.num_labels < 2:
            raise ValueError(
                f"num_labels={self.config.num_labels}: a loss over classes needs at least 2. For one kind of object, "
                "use num_labels=2 with class 0 as the background."
            )
        if labels.is_floating_point():
            raise ValueError(f"labels have the type {labels.dtype}: pass whole numbers, such as torch.int64.")
        if labels.device.type != "cpu" or torch.compiler.is_compiling():
            return
        wrong = (labels < 0) | (labels >= self.config.num_labels)
        wrong &= labels != self.config.semantic_loss_ignore_index
        if wrong.any():
            values = labels[wrong].unique().tolist()
            raise ValueError(
                f"labels hold {values[:10]}{' and more' if len(values) > 10 else ''}, but there are "
                f"num_labels={self.config.num_labels} classes (0 to {self.config.num_labels - 1}) and the ignored "
                f"label {self.config.semantic_loss_ignore_index}. Set num_labels, or map the ids; do_reduce_labels of "
                "the image processor does it where 0 stands for unlabelled."
            )


# The image segmentation pipeline looks for the class's name here, and logs an error where it does not find it.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES[CGRSegConfig.model_type] = CGRSegForSemanticSegmentation.__name__

__all__ = [
    "CGRSegForSemanticSegmentation",
    "CGRSegModel",
    "CGRSegPreTrainedModel",
    "CGRSegSemanticSegmenterOutput",
]
