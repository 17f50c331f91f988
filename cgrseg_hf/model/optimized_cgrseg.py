# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""CGRSeg in a form for inference alone: the same function of the pixels, in fewer and cheaper steps.

Batch normalisations, layer scales and the scaling of attention are folded into convolutions; each convolution does the
activation, sum or product that follows it; attention biases are resized once for each size of input; the head's gate
is folded into the classifier. On a CPU the convolutions run channels-last by oneDNN's fused kernels. Compiled or
exported, the same modules are plain convolutions and activations, which compilers fuse by themselves.

Shapes in comments are (batch, channels, height, width) unless they say otherwise.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.activations import GELUActivation
from transformers.modeling_outputs import BackboneOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES

from .configuration_cgrseg import CGRSegConfig
from .geometry_cgrseg import crop_to_image, find_image_sizes, pad_to_size_divisor
from .modeling_efficientformerv2 import (
    EfficientFormerV2Attention,
    EfficientFormerV2Backbone,
    EfficientFormerV2ConvLayer,
    EfficientFormerV2Downsample,
    EfficientFormerV2DownsampleAttention,
    EfficientFormerV2Layer,
    EfficientFormerV2MLP,
    EfficientFormerV2PositionBias,
    EfficientFormerV2Stage,
    LayerScale,
    position_distances,
    split_heads,
)
from .post_processing_cgrseg import CGRSegSemanticSegmenterOutput

# What oneDNN calls the activations that its convolutions can do on the way out, and by which algorithm.
_FUSED_ACTIVATIONS = {
    type(None): ("none", ""),
    GELUActivation: ("gelu", "none"),
    nn.GELU: ("gelu", "none"),
    nn.ReLU: ("relu", ""),
    nn.Sigmoid: ("sigmoid", ""),
}
# Attention scores of an image that are in memory at once, in bytes: what a core's caches hold.
_SCORES_AT_ONCE = 2**23
# Resized attention biases that are kept from one call to the next, in bytes for each attention.
_KEPT_BIASES = 2**26


class CGRSegForInference(PreTrainedModel):
    """
    [`CGRSegForSemanticSegmentation`] with frozen weights of its own, arranged for speed.

    Its logits are those of the model within 1e-4 in float32. It cannot be trained, saved, or asked for hidden states:
    the model that it was made from stays as it was and does all that. `to` moves it to another device or type.

    Args:
        model ([`CGRSegForSemanticSegmentation`]): The model, whose weights are copied.
    """

    config: CGRSegConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    _supports_sdpa = True

    def __init__(self, model: PreTrainedModel):
        super().__init__(model.config)
        core = model.cgrseg
        with torch.no_grad():
            if isinstance(core.backbone, EfficientFormerV2Backbone):
                self.backbone = _Backbone(core.backbone)
            else:
                self.backbone = copy.deepcopy(core.backbone)
            self.pyramid_context = _PyramidContext(core.pyramid_context)
            self.reconstruction = _Reconstruction(core.reconstruction)
            self.head = _Head(model.head)
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "CGRSegForInference":
        """
        Stay in evaluation mode.

        Raises:
            ValueError: If training is asked for.
        """
        if mode:
            raise ValueError("The inference form cannot be trained: train the model that it was made from.")
        return self

    def save_pretrained(self, *args, **kwargs) -> None:
        """
        Refuse to save.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "The inference form cannot be saved: save the model that it was made from, and call "
            "optimize_for_inference() after loading, or export it."
        )

    def kept_tensors(self) -> list[torch.Tensor]:
        """What a pass reads besides pixels and parameters: resized attention biases, which later passes may replace."""
        modules = (module for module in self.modules() if isinstance(module, _PositionBias))
        return [bias for module in modules for bias in module.kept.values()]

    def forward(
        self, pixel_values: torch.Tensor, image_sizes: torch.LongTensor | None = None
    ) -> CGRSegSemanticSegmenterOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch, channels, height, width)`):
                Normalised pixels of any size from 1×1 on.
            image_sizes (`torch.LongTensor` of shape `(batch, 2)`, *optional*):
                Height and width of each image without its padding, from the image processor; handed on to
                `post_process_semantic_segmentation`. By default those of `pixel_values`.

        Returns:
            `CGRSegSemanticSegmenterOutput`: with `logits` of shape
            `(batch, num_labels, ceil(height / 8), ceil(width / 8))`.

        Raises:
            ValueError: If `pixel_values` has other than four dimensions.
        """
        padded = pad_to_size_divisor(pixel_values.detach())
        features = list(self.backbone(padded.contiguous(memory_format=torch.channels_last)).feature_maps)
        hidden_states = self.reconstruction(features, self.pyramid_context(features))
        return CGRSegSemanticSegmenterOutput(
            logits=crop_to_image(self.head(hidden_states), pixel_values),
            image_sizes=find_image_sizes(pixel_values) if image_sizes is None else image_sizes,
        )


class _Convolution(nn.Module):
    """
    A convolution with all that follows it folded in: batch normalisation, scale, and activation, sum or product.

    Args:
        weight (`torch.Tensor` of shape `(out_channels, in_channels / groups, height, width)`): The folded weight.
        bias (`torch.Tensor` of shape `(out_channels,)`): The folded bias.
        like (`nn.Conv2d`): Whose stride, padding and groups it has.
        activation (`nn.Module`, *optional*): What is done to the result.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, like: nn.Conv2d, activation: nn.Module | None = None):
        super().__init__()
        self.weight = nn.Parameter(weight.to(like.weight.dtype, memory_format=torch.channels_last))
        self.bias = nn.Parameter(bias.to(like.weight.dtype))
        self.stride, self.padding, self.groups = list(like.stride), list(like.padding), like.groups
        self.activation = activation
        self.fused_activation = _FUSED_ACTIVATIONS.get(type(activation))
        self._packed: torch.Tensor | None = None

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.fused_activation is None or not self._is_fusible(hidden_states):
            output = self._convolve(hidden_states)
            return output if self.activation is None else self.activation(output)
        name, algorithm = self.fused_activation
        return torch.ops.mkldnn._convolution_pointwise(
            hidden_states, *self._arguments(hidden_states), name, [], algorithm
        )

    def add_to(self, residual: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """The residual plus the convolution of the hidden states; the residual may be overwritten."""
        if not self._is_fusible(hidden_states, residual):
            return residual + self._convolve(hidden_states)
        return torch.ops.mkldnn._convolution_pointwise_(
            residual, hidden_states, *self._arguments(hidden_states), "add", 1.0, None, [], None
        )

    def multiply(self, factor: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """The convolution of the hidden states times a factor of its shape."""
        if not self._is_fusible(hidden_states, factor):
            return self._convolve(hidden_states) * factor
        return torch.ops.mkldnn._convolution_pointwise(
            hidden_states, factor, *self._arguments(hidden_states), "mul", None, None, [], None
        )

    def _convolve(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(
            hidden_states, self.weight, self.bias, self.stride, self.padding, groups=self.groups
        )

    def _is_fusible(self, *tensors: torch.Tensor) -> bool:
        return _has_fused_kernels(self.weight.dtype) and all(
            tensor.device.type == "cpu" and tensor.dtype == self.weight.dtype for tensor in tensors
        )

    def _arguments(self, hidden_states: torch.Tensor) -> tuple:
        if self._packed is None:
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                self.weight, self.padding, self.stride, [1, 1], self.groups, list(hidden_states.shape)
            )
        return self._packed, self.bias, self.padding, self.stride, [1, 1], self.groups

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        self._packed = None  # weights that move or change their type are packed anew
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_packed": None}


def _has_fused_kernels(dtype: torch.dtype) -> bool:
    """Whether eager convolutions of a type can run by oneDNN's fused kernels, which only compilers call otherwise."""
    if _is_compiled() or torch.is_autocast_enabled("cpu"):
        return False
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _fold(
    convolution: nn.Conv2d, normalization: nn.BatchNorm2d | None = None, scale: LayerScale | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of a convolution followed by a batch normalisation and a scale, in float64."""
    weight = convolution.weight.double()
    bias = weight.new_zeros(len(weight)) if convolution.bias is None else convolution.bias.double()
    if normalization is not None:
        factor, shift = _as_factor_and_shift(normalization)
        weight, bias = weight * factor[:, None, None, None], bias * factor + shift
    if scale is not None:
        factor = scale.scale.double().flatten()
        weight, bias = weight * factor[:, None, None, None], bias * factor
    return weight, bias


def _as_factor_and_shift(normalization: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """What a batch normalisation in evaluation multiplies each channel by and adds to it, in float64."""
    factor = normalization.weight.double() * (normalization.running_var.double() + normalization.eps).rsqrt()
    return factor, normalization.bias.double() - normalization.running_mean.double() * factor


def _convert(
    layer: EfficientFormerV2ConvLayer, scale: LayerScale | None = None, activation: nn.Module | None = None
) -> _Convolution:
    """A layer of convolution, normalisation and activation as one; `activation` is what else follows it."""
    if not isinstance(layer.activation, nn.Identity):
        activation = layer.activation
    return _Convolution(*_fold(layer.convolution, layer.normalization, scale), layer.convolution, activation)


class _Backbone(nn.Module):
    """EfficientFormerV2."""

    def __init__(self, backbone: EfficientFormerV2Backbone):
        super().__init__()
        self.stem = nn.Sequential(_convert(backbone.stem.first), _convert(backbone.stem.second))
        self.stages = nn.ModuleList(_Stage(stage) for stage in backbone.stages)
        self.out_features = [backbone.stage_names.index(name) for name in backbone.out_features]

    def forward(self, pixel_values: torch.Tensor) -> BackboneOutput:
        feature_maps = [self.stem(pixel_values)]
        for stage in self.stages:
            feature_maps.append(stage(feature_maps[-1]))
        return BackboneOutput(feature_maps=tuple(feature_maps[index] for index in self.out_features))


class _Stage(nn.Module):
    """Blocks of one resolution, after the halving that leads into all stages but the first."""

    def __init__(self, stage: EfficientFormerV2Stage):
        super().__init__()
        self.downsample = None if stage.downsample is None else _Downsample(stage.downsample)
        self.layers = nn.ModuleList(_Layer(layer) for layer in stage.layers)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.downsample is not None:
            hidden_states = self.downsample(hidden_states)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class _Downsample(nn.Module):
    """The way into a stage."""

    def __init__(self, downsample: EfficientFormerV2Downsample):
        super().__init__()
        self.convolution = _convert(downsample.convolution)
        self.attention = None if downsample.attention is None else _DownsampleAttention(downsample.attention)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        output = self.convolution(hidden_states)
        return output if self.attention is None else self.attention.add_to(output, hidden_states)


class _Layer(nn.Module):
    """One block: attention if it has any, then the feed-forward part, both added to what comes in."""

    def __init__(self, layer: EfficientFormerV2Layer):
        super().__init__()
        self.attention = None
        if layer.attention is not None:
            self.attention = _Attention(layer.attention, layer.attention_scale)
        self.mlp = _MLP(layer.mlp, layer.mlp_scale)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if self.attention is not None:
            hidden_states = self.attention.add_to(hidden_states, hidden_states)
        return self.mlp.add_to(hidden_states, hidden_states)


class _MLP(nn.Module):
    """Expand, mix neighbours, project back."""

    def __init__(self, mlp: EfficientFormerV2MLP, scale: LayerScale):
        super().__init__()
        self.expansion = _convert(mlp.expansion)
        self.depthwise = _convert(mlp.depthwise)
        self.projection = _convert(mlp.projection, scale)

    def add_to(self, residual: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.projection.add_to(residual, self.depthwise(self.expansion(hidden_states)))


class _PositionBias(nn.Module):
    """
    The attention bias (heads, queries, keys) of any number of positions.

    Args:
        position_bias ([`EfficientFormerV2PositionBias`]): Its table is laid out on the grid once and for all.
        talking_heads (`nn.Conv2d`, *optional*): A mixture of the heads that follows the bias: mixing and resizing may
            change places.
    """

    def __init__(self, position_bias: EfficientFormerV2PositionBias, talking_heads: nn.Conv2d | None = None):
        super().__init__()
        distances = position_distances(position_bias.grid_size, position_bias.query_stride, position_bias.table.device)
        bias = position_bias.table.double()[:, distances]
        if talking_heads is not None:
            weight, shift = _fold(talking_heads)
            bias = torch.einsum("hg,gqk->hqk", weight.flatten(1), bias) + shift[:, None, None]
        self.bias = nn.Parameter(bias.to(position_bias.table.dtype))
        self.kept: OrderedDict[tuple[int, int], torch.Tensor] = OrderedDict()

    def forward(self, num_queries: int, num_keys: int) -> torch.Tensor:
        """The whole bias, (heads, num_queries, num_keys), kept for the next call if it is not too large."""
        if _is_exported():
            return self._resize(num_queries, num_keys)
        if (num_queries, num_keys) == tuple(self.bias.shape[1:]):
            return self.bias
        if torch.compiler.is_compiling():
            return self._resize(num_queries, num_keys)
        kept = self.kept.get((num_queries, num_keys))
        if kept is None:
            kept = self._resize(num_queries, num_keys)
            self._keep((num_queries, num_keys), kept)
        return kept

    def parts(
        self, num_queries: int, num_keys: int, heads_at_once: int, queries_at_once: int
    ) -> Iterator[tuple[slice, slice, torch.Tensor]]:
        """Heads, queries and their part of the bias, one after the other: never the whole in memory if it is large."""
        is_large = self.bias.element_size() * len(self.bias) * num_queries * num_keys > _KEPT_BIASES
        if is_large:  # bicubic resizing acts on keys and queries one after the other
            bias = self._resize(self.bias.shape[1], num_keys)
            weights = _bicubic_weights(self.bias.shape[1], num_queries, self.bias)
        else:
            bias = self(num_queries, num_keys)
        for heads in _slices(len(self.bias), heads_at_once):
            for queries in _slices(num_queries, queries_at_once):
                if not is_large:
                    yield heads, queries, bias[heads, queries]
                    continue
                used = _bicubic_support(queries, self.bias.shape[1], num_queries)
                yield heads, queries, weights[queries, used] @ bias[heads, used]

    def _resize(self, num_queries: int, num_keys: int) -> torch.Tensor:
        size = (num_queries, num_keys)
        if _is_exported():
            return _resize_rows(_resize_rows(self.bias, num_queries).transpose(1, 2), num_keys).transpose(1, 2)
        return nn.functional.interpolate(self.bias[None], size=size, mode="bicubic", align_corners=False)[0]

    def _keep(self, size: tuple[int, int], bias: torch.Tensor) -> None:
        self.kept[size] = bias
        while sum(one.nbytes for one in self.kept.values()) > _KEPT_BIASES:
            self.kept.popitem(last=False)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        self.kept.clear()
        return super()._apply(fn, recurse)


def _bicubic_weights(length: int, target: int, like: torch.Tensor) -> torch.Tensor:
    """The matrix (target, length) of bicubic resizing along one axis."""
    identity = torch.eye(length, dtype=like.dtype, device=like.device)
    return nn.functional.interpolate(identity[None, None], (target, length), mode="bicubic", align_corners=False)[0, 0]


def _bicubic_support(part: slice, length: int, target: int) -> slice:
    """Which of `length` positions a part of `target` resized ones is made of."""
    first, last = (math.floor((at + 0.5) * length / target - 0.5) for at in (part.start, part.stop - 1))
    return slice(max(first - 1, 0), min(last + 2, length - 1) + 1)


def _resize_rows(bias: torch.Tensor, target: int) -> torch.Tensor:
    """
    Resize (heads, rows, columns) bicubically to `target` rows.

    For exported graphs alone: engines take many times longer to resize a picture of eight channels.
    """
    length = bias.shape[1]
    position = (torch.arange(target, device=bias.device) + 0.5) * (length / target) - 0.5
    before = position.floor()
    away = position - before
    # The cubic convolution kernel with a = -0.75 at distances below 1 and below 2, as interpolate() has it.
    near = [(1.25 * distance - 2.25) * distance**2 + 1 for distance in (away, 1 - away)]
    far = [((-0.75 * distance + 3.75) * distance - 6) * distance + 3 for distance in (1 + away, 2 - away)]
    resized = 0
    for offset, weight in zip((-1, 0, 1, 2), (far[0], *near, far[1])):
        index = (before.long() + offset).clamp(0, length - 1)
        resized = resized + bias.index_select(1, index) * weight.to(bias.dtype)[:, None]
    return resized


def _is_compiled() -> bool:
    """Whether the code is read by a compiler, an exporter or a tracer, for which it takes its plainest way."""
    return torch.compiler.is_compiling() or _is_exported()


def _is_exported() -> bool:
    """Whether the code is read for a file that other engines run, at sizes yet unknown."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def _slices(length: int, step: int) -> Iterator[slice]:
    """`step` positions after the other."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    position_bias: _PositionBias,
    attend: Callable[..., torch.Tensor],
    heads_at_once: int,
) -> torch.Tensor:
    """
    Attention in parts whose scores stay small, (batch, channels, queries).

    Args:
        query, key, value (`torch.Tensor`): Each (batch, heads, positions, size).
        position_bias (`_PositionBias`): The bias.
        attend (`Callable`): Attention of a query part, key, value and bias part, (batch, heads, queries, size).
        heads_at_once (`int`): Heads of a part: matrix products want many queries, so as few heads as can be.
    """
    num_queries, num_keys = query.shape[2], key.shape[2]
    if _is_compiled() or 4 * query.shape[1] * num_queries * num_keys <= _SCORES_AT_ONCE:
        output = attend(query, key, value, position_bias(num_queries, num_keys))
    else:
        queries_at_once = max(_SCORES_AT_ONCE // (4 * heads_at_once * num_keys), 1)
        key, value = key.contiguous(), value.contiguous()  # read once for each part
        output = value.new_empty(*query.shape[:3], value.shape[3])
        for heads, queries, bias in position_bias.parts(num_queries, num_keys, heads_at_once, queries_at_once):
            output[:, heads, queries] = attend(query[:, heads, queries], key[:, heads], value[:, heads], bias)
    return output.transpose(1, 2).flatten(2).transpose(1, 2)


class _Attention(nn.Module):
    """Attention over all positions, with talking heads and a local branch."""

    def __init__(self, attention: EfficientFormerV2Attention, scale: LayerScale):
        super().__init__()
        self.num_heads = attention.num_heads
        self.downsample = _convert(attention.downsample) if attention.stride > 1 else None
        self.query_key = _join(attention.query, attention.key, attention.scaling)
        self.value = _convert(attention.value)
        self.local = _convert(attention.local)
        self.position_bias = _PositionBias(attention.position_bias, attention.talking_heads_scores)
        self.mix_scores = nn.Parameter(attention.talking_heads_scores.weight.flatten(1).clone())
        self.mix_weights = nn.Parameter(attention.talking_heads_weights.weight.flatten(1).clone())
        self.weights_shift = nn.Parameter(attention.talking_heads_weights.bias[:, None].clone())
        self.activation = attention.activation
        self.projection = _convert(attention.projection, scale)

    def add_to(self, residual: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        size = hidden_states.shape[-2:]
        if self.downsample is not None:
            hidden_states = self.downsample(hidden_states)
        query, key = (split_heads(half, self.num_heads) for half in self.query_key(hidden_states).chunk(2, dim=1))
        value_map = self.value(hidden_states)
        value = split_heads(value_map, self.num_heads)
        attended = _attend(query, key, value, self.position_bias, self._talk_and_attend, self.num_heads)
        output = attended.unflatten(2, value_map.shape[-2:]) + self.local(value_map)
        if self.downsample is not None:
            output = nn.functional.interpolate(output, size=size, mode="bilinear", align_corners=False)
        return self.projection.add_to(residual, self.activation(output))

    def _talk_and_attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        scores = query @ key.transpose(2, 3)  # (batch, heads, queries, keys)
        weights = self._mix(self.mix_scores, scores, bias).softmax(dim=-1)
        return self._mix(self.mix_weights, weights, self.weights_shift[..., None]) @ value

    def _mix(self, mixture: torch.Tensor, heads: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Each head a mixture of all (batch, heads, queries, keys), plus a shift."""
        mixed = mixture @ heads.flatten(2)
        return mixed.unflatten(2, heads.shape[2:]) + shift


class _DownsampleAttention(nn.Module):
    """Attention that halves the resolution: one query for every second key along each axis."""

    def __init__(self, attention: EfficientFormerV2DownsampleAttention):
        super().__init__()
        self.num_heads = attention.num_heads
        self.query_local = _Convolution(*_fold(_add_identity(attention.query_local)), attention.query_local)
        weight, bias = _fold(attention.query.convolution, attention.query.normalization)
        self.query = _Convolution(weight * attention.scaling, bias * attention.scaling, attention.query.convolution)
        self.key = _convert(attention.key)
        self.value = _convert(attention.value)
        self.local = _convert(attention.local)
        self.position_bias = _PositionBias(attention.position_bias)
        self.activation = attention.activation
        self.projection = _convert(attention.projection)

    def add_to(self, residual: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        query = split_heads(self.query(self.query_local(hidden_states)), self.num_heads)
        key = split_heads(self.key(hidden_states), self.num_heads)
        value_map = self.value(hidden_states)
        value = split_heads(value_map, self.num_heads)
        attended = _attend(query, key, value, self.position_bias, self._attend_plainly, heads_at_once=1)
        output = attended.unflatten(2, residual.shape[-2:]) + self.local(value_map)
        return self.projection.add_to(residual, self.activation(output))

    def _attend_plainly(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        if query.device.type == "cpu":  # has no fused kernel for values that are larger than keys
            return (query @ key.transpose(2, 3) + bias).softmax(dim=-1) @ value
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None], scale=1.0)


def _join(query: EfficientFormerV2ConvLayer, key: EfficientFormerV2ConvLayer, scaling: float) -> _Convolution:
    """Queries, scaled, and keys from one convolution."""
    (weight, bias), (key_weight, key_bias) = (_fold(one.convolution, one.normalization) for one in (query, key))
    return _Convolution(
        torch.cat([weight * scaling, key_weight]), torch.cat([bias * scaling, key_bias]), query.convolution
    )


def _add_identity(depthwise: nn.Conv2d) -> nn.Conv2d:
    """A depthwise convolution that adds to its result the very positions that it is centred on."""
    convolution = copy.deepcopy(depthwise)
    convolution.weight[:, 0, convolution.kernel_size[0] // 2, convolution.kernel_size[1] // 2] += 1
    return convolution


class _PyramidContext(nn.Module):
    """Context for every scale, from all scales pooled to half of the coarsest one's size."""

    def __init__(self, context: nn.Module):
        super().__init__()
        self.channels = context.channels
        self.blocks = nn.ModuleList(_CalibrationModule(block) for block in context.blocks)

    def forward(self, features: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        size = [(length + 1) // 2 for length in features[-1].shape[-2:]]
        context = torch.cat([_pool(feature, size) for feature in features], dim=1)
        for block in self.blocks:
            context = block(context)
        return context.split(self.channels, dim=1)


def _pool(features: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Adaptive average pooling of (batch, channels, height, width) to a size."""
    height, width = features.shape[-2:]
    divides = isinstance(height, int) and isinstance(width, int) and height % size[0] == width % size[1] == 0
    if divides or not _is_exported():
        return nn.functional.adaptive_avg_pool2d(features, size)
    # Exported formats have no windows of unequal sizes. A plain product of matrices would compare sizes yet unknown.
    planes = features.flatten(0, 1)
    for length, target in ((width, size[1]), (height, size[0])):
        weights = _pooling_weights(length, target, features)
        planes = torch.bmm(planes, weights.expand(planes.shape[0], -1, -1)).transpose(1, 2)
    return planes.unflatten(0, features.shape[:2])


def _pooling_weights(length: int, target: int, like: torch.Tensor) -> torch.Tensor:
    """The matrix (length, target) of adaptive average pooling along one axis."""
    window = torch.arange(target, device=like.device)
    position = torch.arange(length, device=like.device)[:, None]
    start, end = window * length // target, ((window + 1) * length + target - 1) // target
    return ((position >= start) & (position < end)).to(like.dtype) / (end - start)


class _CalibrationModule(nn.Module):
    """Rectangular self-calibration attention and an MLP, added to what comes in."""

    def __init__(self, module: nn.Module):
        super().__init__()
        attention = module.attention
        strip = attention.horizontal_strip
        weight, bias = _fold(strip, attention.normalization)
        self.strip_weight, self.strip_bias = (nn.Parameter(one.to(strip.weight.dtype)) for one in (weight, bias))
        self.strip_padding = strip.padding
        self.vertical_strip = _Convolution(*_fold(attention.vertical_strip), attention.vertical_strip, nn.Sigmoid())
        # attention * local is normalised: the factor goes into the local convolution, the shift into the expansion.
        factor, shift = _as_factor_and_shift(module.normalization)
        weight, bias = _fold(attention.local)
        self.local = _Convolution(weight * factor[:, None, None, None], bias * factor, attention.local)
        weight, bias = _fold(module.expansion)
        self.expansion = _Convolution(weight, bias + weight.flatten(1) @ shift, module.expansion, module.activation)
        self.projection = _Convolution(*_fold(module.projection, scale=module.layer_scale), module.projection)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        column = hidden_states.mean(dim=3, keepdim=True)  # (batch, channels, height, 1)
        row = hidden_states.mean(dim=2, keepdim=True)  # (batch, channels, 1, width)
        region = (column * self._strip(torch.ones_like(row[:1])) + self._strip(row, self.strip_bias)).relu_()
        calibrated = self.local.multiply(self.vertical_strip(region), hidden_states)
        return self.projection.add_to(hidden_states, self.expansion(calibrated))

    def _strip(self, row: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """The horizontal strip convolution of one row, (batch, channels, 1, width)."""
        groups = len(self.strip_weight)
        return nn.functional.conv2d(row, self.strip_weight, bias, padding=self.strip_padding, groups=groups)


class _Fusion(nn.Module):
    """Project one scale's features and gate them by its context."""

    def __init__(self, fusion: nn.Module):
        super().__init__()
        feature, context = fusion.feature_projection, fusion.context_projection
        self.feature_projection = _Convolution(*_fold(feature, fusion.feature_normalization), feature)
        self.context_projection = _Convolution(*_fold(context, fusion.context_normalization), context)

    def forward(self, features: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        gate = nn.functional.hardsigmoid(self.context_projection(context))
        gate = nn.functional.interpolate(gate, size=features.shape[-2:], mode="bilinear", align_corners=False)
        return self.feature_projection.multiply(gate, features)


class _Reconstruction(nn.Module):
    """From coarse to fine: calibrate each scale, fuse it with its context, add it to the next."""

    def __init__(self, reconstruction: nn.Module):
        super().__init__()
        self.calibrations = nn.ModuleList(
            nn.Identity() if isinstance(module, nn.Identity) else _CalibrationModule(module)
            for module in reconstruction.calibrations
        )
        self.fusions = nn.ModuleList(_Fusion(fusion) for fusion in reconstruction.fusions)
        self.lateral_projections = nn.ModuleList(
            _Convolution(*_fold(projection), projection) for projection in reconstruction.lateral_projections
        )

    def forward(self, features: list[torch.Tensor], contexts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        reconstructed = None
        for scale in reversed(range(len(features))):
            hidden_states = features[scale]
            if reconstructed is not None:
                coarse = self.lateral_projections[scale](reconstructed)
                hidden_states = hidden_states + nn.functional.interpolate(
                    coarse, size=hidden_states.shape[-2:], mode="bilinear", align_corners=False
                )
            reconstructed = self.fusions[scale](self.calibrations[scale](hidden_states), contexts[scale])
        return reconstructed


class _Head(nn.Module):
    """Classify pixels, with the gate that a first, coarse prediction gathers on the classifier's weight."""

    def __init__(self, head: nn.Module):
        super().__init__()
        factor, shift = _as_factor_and_shift(head.coarse_normalization)
        weight = head.coarse_convolution.weight.flatten()
        self.coarse_factor = nn.Parameter((weight * factor).to(weight.dtype)[:, None])
        self.coarse_shift = nn.Parameter(shift.to(weight.dtype)[:, None])
        self.weight = nn.Parameter(head.classifier.weight.flatten(1).clone())
        self.bias = nn.Parameter(head.classifier.bias[:, None].clone())
        self.use_prototype = head.use_prototype
        if self.use_prototype:
            self.class_score = copy.deepcopy(head.class_score)
            self.gate_reduction = copy.deepcopy(head.gate_reduction)
            self.gate_normalization = copy.deepcopy(head.gate_normalization)
            self.gate_projection = copy.deepcopy(head.gate_projection)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        size = hidden_states.shape[-2:]
        features = hidden_states.flatten(2)  # (batch, D, pixels)
        coarse = (features * self.coarse_factor + self.coarse_shift).relu_()
        logits = self.weight @ coarse + self.bias  # (batch, classes, pixels)
        if self.use_prototype:
            embeddings = logits.softmax(dim=2) @ features.transpose(1, 2)  # (batch, classes, D)
            prototype = (embeddings * self.class_score(embeddings).softmax(dim=1)).sum(dim=1)
            gate = self.gate_normalization(self.gate_reduction(prototype)).relu_()
            gate = self.gate_projection(gate).sigmoid()  # (batch, D)
            logits = (self.weight * (gate[:, None] + 1)) @ features + self.bias
        return logits.unflatten(2, size)


# The image segmentation pipeline logs an error for classes whose names it does not find here.
MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES[f"{CGRSegConfig.model_type}_for_inference"] = CGRSegForInference.__name__

__all__ = ["CGRSegForInference"]
