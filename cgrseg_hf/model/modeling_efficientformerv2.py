# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""EfficientFormerV2 as a backbone for dense prediction.

Rethinking Vision Transformers for MobileNet Size and Speed, ICCV 2023 (arXiv 2212.08059), in the form that CGRSeg uses
(ECCV 2024, arXiv 2405.06228): attention biases laid out for 512×512 pixels and resized to the input.

Shapes in comments are (batch, channels, height, width) unless they say otherwise.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_cgrseg import SIZE_DIVISOR, EfficientFormerV2Config

# The attention bias tables of the ImageNet checkpoints are laid out for 224×224 pixels: 7×7 positions at stride 32.
IMAGENET_GRID_SIZE = 224 // SIZE_DIVISOR


class LayerScale(nn.Module):
    """Multiply each channel of a (batch, channels, height, width) tensor by a learned factor."""

    def __init__(self, num_channels: int, init_value: float):
        super().__init__()
        self.init_value = init_value
        self.scale = nn.Parameter(torch.full((num_channels, 1, 1), float(init_value)))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states * self.scale


class DropPath(nn.Module):
    """Zero a residual branch for a random share of the batch in training, and scale up the rest (stochastic depth)."""

    def __init__(self, drop_probability: float):
        super().__init__()
        self.drop_probability = drop_probability

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.training or self.drop_probability == 0.0:
            return hidden_states
        keep_probability = 1.0 - self.drop_probability
        kept = hidden_states.new_empty(hidden_states.shape[0], 1, 1, 1).bernoulli_(keep_probability)
        return hidden_states * (kept / keep_probability)

    def extra_repr(self) -> str:
        return f"drop_probability={self.drop_probability}"


class EfficientFormerV2ConvLayer(nn.Module):
    """A convolution that keeps the size (but for its stride), batch normalisation, and an activation if asked for."""

    def __init__(
        self,
        config: EfficientFormerV2Config,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        depthwise: bool = False,
        activation: bool = False,
    ):
        super().__init__()
        self.convolution = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=in_channels if depthwise else 1,
        )
        self.normalization = nn.BatchNorm2d(out_channels, eps=config.batch_norm_eps)
        self.activation = ACT2FN[config.hidden_act] if activation else nn.Identity()

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.activation(self.normalization(self.convolution(hidden_states)))


class EfficientFormerV2Stem(nn.Module):
    """Two convolutions of stride 2: (batch, 3, height, width) to (batch, C1, height/4, width/4)."""

    def __init__(self, config: EfficientFormerV2Config):
        super().__init__()
        out_channels = config.hidden_sizes[0]
        self.first = EfficientFormerV2ConvLayer(
            config, config.num_channels, out_channels // 2, kernel_size=3, stride=2, activation=True
        )
        self.second = EfficientFormerV2ConvLayer(
            config, out_channels // 2, out_channels, kernel_size=3, stride=2, activation=True
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(pixel_values))


class EfficientFormerV2MLP(nn.Module):
    """The feed-forward part: expand, mix neighbours by a depthwise convolution, project back."""

    def __init__(self, config: EfficientFormerV2Config, num_channels: int, expansion_ratio: float):
        super().__init__()
        expanded = int(num_channels * expansion_ratio)
        self.expansion = EfficientFormerV2ConvLayer(config, num_channels, expanded, activation=True)
        self.depthwise = EfficientFormerV2ConvLayer(
            config, expanded, expanded, kernel_size=3, depthwise=True, activation=True
        )
        self.projection = EfficientFormerV2ConvLayer(config, expanded, num_channels)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.projection(self.depthwise(self.expansion(hidden_states)))


class EfficientFormerV2PositionBias(nn.Module):
    """
    A learned attention bias for every distance between a query and a key.

    The table holds one value a head and distance (|Δy|, |Δx|) on a square grid of keys, row-major. Queries may sit on
    every second key only (`query_stride` 2). For another number of positions than the grid has, the (queries, keys)
    matrix is resized as a picture.
    """

    def __init__(self, num_heads: int, grid_size: int, query_stride: int = 1):
        super().__init__()
        self.num_heads = num_heads
        self.query_stride = query_stride
        self.grid_size = grid_size
        self.table = nn.Parameter(torch.zeros(num_heads, (grid_size * query_stride) ** 2))
        # What ImageNet pretraining learned for its own grid. The reference carries it along unused, and so do we, for
        # a conversion that loses nothing.
        self.register_buffer("imagenet_table", torch.zeros(num_heads, (IMAGENET_GRID_SIZE * query_stride) ** 2))

    def forward(self, num_queries: int, num_keys: int) -> torch.Tensor:
        """The bias of shape (heads, num_queries, num_keys)."""
        num_grid_queries, num_grid_keys = self.grid_size**2, (self.grid_size * self.query_stride) ** 2
        distances = position_distances(self.grid_size, self.query_stride, device=self.table.device)
        # Indexing by a matrix would give the same in four times the time, and eight times in the backward pass.
        bias = self.table.index_select(1, distances.flatten())
        bias = bias.view(-1, *distances.shape)  # (heads, grid queries, grid keys)
        # Resizing to the same size changes nothing, and an exported graph must not depend on one size.
        fixed_size = not (torch.compiler.is_exporting() or torch.jit.is_tracing())
        if fixed_size and (num_queries, num_keys) == (num_grid_queries, num_grid_keys):
            return bias
        size = (num_queries, num_keys)
        return nn.functional.interpolate(bias[None], size=size, mode="bicubic", align_corners=False)[0]


def position_distances(grid_size: int, query_stride: int, device: torch.device | None = None) -> torch.Tensor:
    """
    Index of every query's distance to every key, (queries, keys), int64.

    Keys fill a square grid of `grid_size * query_stride` positions a side and queries every `query_stride`-th of
    them, both row-major; distance (|Δy|, |Δx|) has the index |Δy| · side + |Δx|.
    """
    side = grid_size * query_stride
    queries = torch.arange(grid_size, device=device) * query_stride
    distance = (queries[:, None] - torch.arange(side, device=device)).abs()  # (query, key) along one axis
    index = distance[:, None, :, None] * side + distance[None, :, None, :]  # (query y, query x, key y, key x)
    return index.reshape(grid_size**2, side**2)


class EfficientFormerV2Attention(nn.Module):
    """
    Multi-head self-attention over all positions, with talking heads and a local branch.

    With `stride` 2 it works at half the resolution and comes back by bilinear upsampling.
    """

    def __init__(self, config: EfficientFormerV2Config, num_channels: int, stride: int):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.scaling = config.attention_key_size**-0.5
        key_channels = config.num_attention_heads * config.attention_key_size
        value_channels = key_channels * config.attention_value_ratio
        self.stride = stride
        if stride > 1:
            self.downsample = EfficientFormerV2ConvLayer(
                config, num_channels, num_channels, kernel_size=3, stride=stride, depthwise=True
            )
        self.query = EfficientFormerV2ConvLayer(config, num_channels, key_channels)
        self.key = EfficientFormerV2ConvLayer(config, num_channels, key_channels)
        self.value = EfficientFormerV2ConvLayer(config, num_channels, value_channels)
        self.local = EfficientFormerV2ConvLayer(config, value_channels, value_channels, kernel_size=3, depthwise=True)
        self.position_bias = EfficientFormerV2PositionBias(self.num_heads, config.image_size // SIZE_DIVISOR)
        self.talking_heads_scores = nn.Conv2d(self.num_heads, self.num_heads, kernel_size=1)
        self.talking_heads_weights = nn.Conv2d(self.num_heads, self.num_heads, kernel_size=1)
        self.activation = ACT2FN[config.hidden_act]
        self.projection = EfficientFormerV2ConvLayer(config, value_channels, num_channels)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The result in the input's shape, and the weights (batch, heads, positions, positions)."""
        size = hidden_states.shape[-2:]
        if self.stride > 1:
            hidden_states = self.downsample(hidden_states)
        query = split_heads(self.query(hidden_states), self.num_heads)  # (batch, heads, positions, key size)
        key = split_heads(self.key(hidden_states), self.num_heads)
        value_map = self.value(hidden_states)  # (batch, heads * value size, height, width)
        value = split_heads(value_map, self.num_heads)
        num_positions = query.shape[2]

        scores = query @ key.transpose(2, 3) * self.scaling  # (batch, heads, positions, positions)
        scores = self.talking_heads_scores(scores + self.position_bias(num_positions, num_positions))
        weights = self.talking_heads_weights(scores.softmax(dim=-1))
        output = merge_heads(weights @ value, value_map.shape[-2:]) + self.local(value_map)
        if self.stride > 1:
            output = self.upsample(output, size)
        return self.projection(self.activation(output)), weights

    def upsample(self, hidden_states: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(batch, channels, height, width) to the given height and width, bilinearly."""
        # Channels-last, this takes half of the time on CPUs. For torch.export a layout would tie sizes together.
        if not torch.compiler.is_exporting():
            hidden_states = hidden_states.contiguous(memory_format=torch.channels_last)
        resized = nn.functional.interpolate(hidden_states, size=size, mode="bilinear", align_corners=False)
        return resized.contiguous()


class EfficientFormerV2DownsampleAttention(nn.Module):
    """Attention that halves the resolution: one query for every second key along each axis."""

    def __init__(self, config: EfficientFormerV2Config, in_channels: int, out_channels: int):
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.scaling = config.downsample_attention_key_size**-0.5
        key_channels = config.num_attention_heads * config.downsample_attention_key_size
        value_channels = key_channels * config.attention_value_ratio
        self.query_local = nn.Conv2d(in_channels, in_channels, kernel_size=3, stride=2, padding=1, groups=in_channels)
        self.query = EfficientFormerV2ConvLayer(config, in_channels, key_channels)
        self.key = EfficientFormerV2ConvLayer(config, in_channels, key_channels)
        self.value = EfficientFormerV2ConvLayer(config, in_channels, value_channels)
        self.local = EfficientFormerV2ConvLayer(
            config, value_channels, value_channels, kernel_size=3, stride=2, depthwise=True
        )
        self.position_bias = EfficientFormerV2PositionBias(
            self.num_heads, config.image_size // SIZE_DIVISOR, query_stride=2
        )
        self.activation = ACT2FN[config.hidden_act]
        self.projection = EfficientFormerV2ConvLayer(config, value_channels, out_channels)

    def forward(
        self, hidden_states: torch.Tensor, output_attentions: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The result (batch, out channels, height/2, width/2), and the weights (batch, heads, queries, keys)."""
        query_map = self.query(self.query_local(hidden_states) + hidden_states[..., ::2, ::2])
        query = split_heads(query_map, self.num_heads)  # (batch, heads, queries, key size)
        key = split_heads(self.key(hidden_states), self.num_heads)  # (batch, heads, keys, key size)
        value_map = self.value(hidden_states)  # (batch, heads * value size, height, width)
        value = split_heads(value_map, self.num_heads)
        bias = self.position_bias(query.shape[2], key.shape[2])

        # The fused kernel never shows its weights.
        weights = None
        if self.config._attn_implementation == "sdpa" and not output_attentions:
            bias = bias.to(query.dtype)[None]
            output = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scaling)
        else:
            weights = (query @ key.transpose(2, 3) * self.scaling + bias).softmax(dim=-1)
            output = weights @ value
        output = merge_heads(output, query_map.shape[-2:]) + self.local(value_map)
        return self.projection(self.activation(output)), weights


def split_heads(hidden_states: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(batch, heads * size, height, width) to (batch, heads, height * width, size)."""
    return hidden_states.flatten(2).unflatten(1, (num_heads, -1)).transpose(2, 3)


def merge_heads(hidden_states: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(batch, heads, height * width, size) to (batch, heads * size, height, width)."""
    return hidden_states.transpose(2, 3).flatten(1, 2).unflatten(2, tuple(size))


class EfficientFormerV2Downsample(nn.Module):
    """The way into a stage: a convolution of stride 2, before the last stage with attention added to it."""

    def __init__(self, config: EfficientFormerV2Config, in_channels: int, out_channels: int, use_attention: bool):
        super().__init__()
        self.convolution = EfficientFormerV2ConvLayer(config, in_channels, out_channels, kernel_size=3, stride=2)
        self.attention = (
            EfficientFormerV2DownsampleAttention(config, in_channels, out_channels) if use_attention else None
        )

    def forward(self, hidden_states: torch.Tensor, output_attentions: bool = False) -> torch.Tensor:
        output = self.convolution(hidden_states)
        if self.attention is not None:
            output = output + self.attention(hidden_states, output_attentions=output_attentions)[0]
        return output


class EfficientFormerV2Layer(GradientCheckpointingLayer):
    """One block: attention if `attention_stride` is given, then the feed-forward part, both residual."""

    def __init__(
        self,
        config: EfficientFormerV2Config,
        num_channels: int,
        expansion_ratio: float,
        drop_path_rate: float,
        attention_stride: int | None,
    ):
        super().__init__()
        self.attention = None
        if attention_stride is not None:
            self.attention = EfficientFormerV2Attention(config, num_channels, attention_stride)
            self.attention_scale = LayerScale(num_channels, config.layer_scale_init_value)
        self.mlp = EfficientFormerV2MLP(config, num_channels, expansion_ratio)
        self.mlp_scale = LayerScale(num_channels, config.layer_scale_init_value)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.attention is not None:
            hidden_states = hidden_states + self.drop_path(self.attention_scale(self.attention(hidden_states)[0]))
        return hidden_states + self.drop_path(self.mlp_scale(self.mlp(hidden_states)))


class EfficientFormerV2Stage(nn.Module):
    """Blocks of one resolution, after the halving that leads into all stages but the first."""

    def __init__(self, config: EfficientFormerV2Config, stage: int, drop_path_rates: list[float]):
        super().__init__()
        num_channels = config.hidden_sizes[stage]
        self.downsample = None
        if stage > 0:
            self.downsample = EfficientFormerV2Downsample(
                config, config.hidden_sizes[stage - 1], num_channels, use_attention=stage == 3
            )
        first_attention_block = config.depths[stage] - config.num_attention_blocks if stage >= 2 else math.inf
        self.layers = nn.ModuleList(
            EfficientFormerV2Layer(
                config,
                num_channels,
                expansion_ratio,
                drop_path_rate,
                # Stage 3's attention works at half its resolution, stage 4's at the full one: both at stride 32.
                attention_stride=(2 if stage == 2 else 1) if block >= first_attention_block else None,
            )
            for block, (expansion_ratio, drop_path_rate) in enumerate(
                zip(config.mlp_expansion_ratios[stage], drop_path_rates)
            )
        )

    def forward(self, hidden_states: torch.Tensor, output_attentions: bool = False) -> torch.Tensor:
        if self.downsample is not None:
            hidden_states = self.downsample(hidden_states, output_attentions=output_attentions)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class SafeLoadingMixin:
    """Loading of weights that says what to do about files which could run code; transformers refuses them as well."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> PreTrainedModel:
        """
        Load a model as transformers does.

        Raises:
            ValueError: If the weights are damaged, or a pickle that holds more than tensors.
        """
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except (UnpicklingError, EOFError):
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} (pytorch_model.bin, or its parts) are damaged or hold "
                "more than tensors, and are not loaded, since unpickling them could run code. Take a copy with "
                "safetensors weights, or have their maker write one by save_pretrained."
            ) from None
        except SafetensorError as error:
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} (model.safetensors, or its parts) are damaged "
                f"({error}): take a new copy."
            ) from error


class EfficientFormerV2PreTrainedModel(SafeLoadingMixin, PreTrainedModel):
    """Weight initialisation and loading for EfficientFormerV2."""

    config: EfficientFormerV2Config
    base_model_prefix = "efficientformerv2"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["EfficientFormerV2Layer", "EfficientFormerV2Downsample"]
    _supports_sdpa = True
    _can_compile_fullgraph = True
    _can_record_outputs = {
        "hidden_states": OutputRecorder(EfficientFormerV2Stage, num_hidden_layers_key="num_stages"),
        "attentions": [
            OutputRecorder(EfficientFormerV2DownsampleAttention, index=1),
            OutputRecorder(EfficientFormerV2Attention, index=1),
        ],
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        initialize_convolution_or_scale(module)
        if isinstance(module, EfficientFormerV2PositionBias):
            init.zeros_(module.table)
            init.zeros_(module.imagenet_table)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers guesses from this file's text; the attention reads its configuration in every call.
        return True

    def _set_gradient_checkpointing(
        self, enable: bool = True, gradient_checkpointing_func: Callable = torch.utils.checkpoint.checkpoint, **kwargs
    ) -> None:
        checkpointing_func = checkpoint_with_single_statistics_update(self, gradient_checkpointing_func)
        super()._set_gradient_checkpointing(enable, checkpointing_func, **kwargs)


def initialize_convolution_or_scale(module: nn.Module) -> None:
    """PyTorch's own fan-in scaled initialisation, as the reference has; a fixed deviation starves depthwise ones."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        init.kaiming_uniform_(module.weight, a=math.sqrt(5))
        if module.bias is not None:
            bound = 1 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, LayerScale):
        init.constant_(module.scale, module.init_value)


def checkpoint_with_single_statistics_update(model: nn.Module, checkpointing_func: Callable) -> Callable:
    """
    Let activation checkpointing update the running statistics of batch normalisations once a step, not twice.

    A checkpointed part runs again in the backward pass; its batch normalisations then normalise by the same batch but
    must not count it again. The reentrant kind of checkpointing offers no hook for that and is left as it is.
    """
    settings = getattr(checkpointing_func, "keywords", {})
    if settings.get("use_reentrant", True) or "context_fn" in settings:
        return checkpointing_func
    # Arguments of a partial, unlike a closure's variables, follow the model into a deep copy.
    return functools.partial(_checkpoint, checkpointing_func, model)


def _checkpoint(checkpointing_func: Callable, model: nn.Module, function: Callable, *args, **kwargs):
    if torch.compiler.is_compiling():  # a compiled graph holds each update once
        return checkpointing_func(function, *args, **kwargs)
    return checkpointing_func(function, *args, context_fn=functools.partial(_checkpoint_contexts, model), **kwargs)


def _checkpoint_contexts(model: nn.Module) -> tuple[contextlib.AbstractContextManager, ...]:
    return contextlib.nullcontext(), batch_norm_statistics_kept(model)


@contextlib.contextmanager
def batch_norm_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Leave running means, variances and counts of batch normalisations in training mode as they are."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.training]
    for norm, _, num_batches_tracked in kept:
        norm.momentum, norm.num_batches_tracked = 0.0, num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, momentum, num_batches_tracked in kept:
            norm.momentum, norm.num_batches_tracked = momentum, num_batches_tracked


class EfficientFormerV2Backbone(BackboneMixin, EfficientFormerV2PreTrainedModel):
    """
    EfficientFormerV2 without its classifier, for dense prediction.

    `out_features` of the configuration chooses among `stem`, `stage1`, … `stage4` (strides 4, 4, 8, 16 and 32).
    """

    _auto_class = "AutoBackbone"

    def __init__(self, config: EfficientFormerV2Config):
        super().__init__(config)
        self.num_features = [config.hidden_sizes[0], *config.hidden_sizes]
        self.stem = EfficientFormerV2Stem(config)
        drop_path_rates = torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu")
        self.stages = nn.ModuleList(
            EfficientFormerV2Stage(config, stage, rates.tolist())
            for stage, rates in enumerate(drop_path_rates.split(config.depths))
        )
        self.post_init()

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> BackboneOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`):
                Normalised pixels; height and width must divide by 32.
            output_hidden_states (`bool`, *optional*):
                Return the stem's output and each stage's too.
            output_attentions (`bool`, *optional*):
                Return the attention weights too, each of shape `(batch, heads, queries, keys)`: of the attention
                blocks of stage 3, of the halving before stage 4, and of the attention blocks of stage 4.

        Returns:
            `BackboneOutput`: `feature_maps` with one tensor `(batch, channels, height / stride, width / stride)` for
            each of `out_features`.

        Example:

        ```python
        >>> import torch
        >>> from cgrseg_hf import EfficientFormerV2Backbone, EfficientFormerV2Config

        >>> backbone = EfficientFormerV2Backbone(EfficientFormerV2Config(out_features=["stage2", "stage4"]))
        >>> [tuple(features.shape) for features in backbone(torch.zeros(1, 3, 64, 96)).feature_maps]
        [(1, 48, 8, 12), (1, 224, 2, 3)]
        ```"""
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        hidden_states = self.stem(pixel_values)
        outputs = {"stem": hidden_states}
        for name, stage in zip(self.stage_names[1:], self.stages):
            hidden_states = stage(hidden_states, output_attentions=output_attentions)
            outputs[name] = hidden_states
        return BackboneOutput(feature_maps=tuple(outputs[name] for name in self.out_features))


__all__ = ["EfficientFormerV2Backbone", "EfficientFormerV2PreTrainedModel"]
