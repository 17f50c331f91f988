# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Checkpoints of the reference code (mmsegmentation 0.27) to CGRSegForSemanticSegmentation and back, bit for bit."""

import logging
import math
import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from ..model.configuration_cgrseg import (
    PRESETS,
    SIZE_DIVISOR,
    CGRSegConfig,
    EfficientFormerV2Config,
    check_override_names,
)
from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
from ..model.modeling_efficientformerv2 import position_distances
from .files import find_state_dict, read_checkpoint
from .names import describe_misfit, enumerate_names, official_name, same_but_for_ones

logger = logging.getLogger(__name__)

# Constants that the reference keeps in its checkpoints: the index of every distance, for the two bias tables.
_INDEX_OF_TABLE = {"attention_biases": "attention_bias_idxs", "attention_biases_seg": "attention_bias_idxs_seg"}


def from_official(
    source: str | os.PathLike | Mapping[str, Any], use_ema: bool = False, **config_overrides: Any
) -> CGRSegForSemanticSegmentation:
    """
    Build a model from a checkpoint of the reference code.

    Size, pyramid depth, kernels and classes are inferred from the tensors; the names of classes come from the
    checkpoint's `meta` if it has them. As in the reference, the training loss is divided by all pixels
    (`loss_normalization="all"`).

    Args:
        source (`str`, `os.PathLike` or `Mapping`):
            A checkpoint file, or its content: a state dict, on its own or under `state_dict`, with or without the
            prefixes `module.` and `ema_`. Files are read with `weights_only=True`.
        use_ema (`bool`, *optional*, defaults to `False`):
            Use the averaged weights that mmcv's EMA hook keeps beside the others, as
            `ema_backbone_patch_embed_0_weight`.
        **config_overrides:
            Fields of [`CGRSegConfig`] to change; a `backbone_config` dictionary changes single fields.

    Returns:
        `CGRSegForSemanticSegmentation`: in evaluation mode.

    Raises:
        ValueError: If tensors are missing, left over or of another shape (all are listed), the file holds more than
            tensors and plain values, or an override is unknown.
        FileNotFoundError: If there is no such file.
    """
    check_override_names(CGRSegConfig, config_overrides)
    backbone_overrides = config_overrides.pop("backbone_config", None) or {}
    if not isinstance(backbone_overrides, Mapping):
        raise ValueError(f"backbone_config={type(backbone_overrides).__name__}: pass a dictionary of fields to change.")
    check_override_names(EfficientFormerV2Config, backbone_overrides)
    checkpoint = read_checkpoint(source)
    state_dict = _choose_weights(find_state_dict(checkpoint, "state_dict"), use_ema)
    settings = _infer_settings(state_dict)
    settings["id2label"] = _class_names(checkpoint, settings["num_labels"])
    settings["backbone_config"] |= backbone_overrides
    config = CGRSegConfig(**{**settings, **config_overrides})

    model = CGRSegForSemanticSegmentation(config)
    model.load_state_dict(_to_ours(state_dict, model))
    return model.eval()


def to_official(model: CGRSegForSemanticSegmentation) -> dict[str, torch.Tensor]:
    """
    Make the whole state dict of the reference code for the same model.

    Args:
        model (`CGRSegForSemanticSegmentation`):
            A model with an EfficientFormerV2 backbone and all parts of the decoder: the reference has no other.

    Returns:
        `dict[str, torch.Tensor]`: copies on the CPU, under the names `backbone.*` and `decode_head.*`.

    Raises:
        ValueError: If the reference has no such model.
    """
    model = getattr(model, "_orig_mod", model)  # out of torch.compile's wrapper
    config = model.config
    switches = ("use_rcm_in_pyramid_context", "use_rcm_in_reconstruction", "use_dynamic_prototype_head")
    off = [name for name in switches if not getattr(config, name)]
    if config.backbone_config.model_type != EfficientFormerV2Config.model_type or off:
        raise ValueError(
            "The reference code has only the full CGRSeg on EfficientFormerV2; this model has "
            + (f"{', '.join(off)} off." if off else f"the backbone {config.backbone_config.model_type!r}.")
        )
    modules = dict(model.named_modules())
    state_dict = {}
    for name, tensor in model.state_dict().items():
        module = modules[name.rpartition(".")[0]]
        state_dict[official_name(name)] = _official_layout(name, module, tensor).detach().cpu().clone()
    state_dict.update(_index_tensors(model))
    return state_dict


def _choose_weights(state_dict: dict[str, torch.Tensor], use_ema: bool) -> dict[str, torch.Tensor]:
    """Choose one tensor for each name: mmcv's EMA hook keeps a second one of each parameter."""
    averaged = {name: tensor for name, tensor in state_dict.items() if name.startswith("ema_")}
    plain = {name: tensor for name, tensor in state_dict.items() if name not in averaged}
    if not plain:
        return {name.removeprefix("ema_"): tensor for name, tensor in averaged.items()}
    if not use_ema:
        if averaged:
            logger.info("%d averaged tensors (ema_*) are left out: use_ema=True uses them.", len(averaged))
        return plain
    if not averaged:
        raise ValueError("use_ema=True, but the checkpoint holds no averaged weights (ema_*): leave it out.")
    return {name: averaged.get(f"ema_{name.replace('.', '_')}", tensor) for name, tensor in plain.items()}


def _to_ours(state_dict: dict[str, torch.Tensor], model: CGRSegForSemanticSegmentation) -> dict[str, torch.Tensor]:
    """Rename and reshape the checkpoint's tensors to ours, and check that none is missing or left over."""
    expected = {official_name(name): (name, tensor) for name, tensor in model.state_dict().items()}
    indices = _index_tensors(model)
    different = [
        f"{name}: {tuple(state_dict[name].shape)}, expected {tuple(ours.shape)}"
        for name, (_, ours) in expected.items()
        if name in state_dict and not same_but_for_ones(state_dict[name], ours)
    ] + [
        f"{name}: distances are numbered otherwise"
        for name, index in indices.items()
        if name in state_dict and not torch.equal(state_dict[name], index)
    ]
    misfit = describe_misfit(
        expected.keys() - state_dict.keys(), state_dict.keys() - expected.keys() - indices.keys(), different
    )
    if misfit:
        raise ValueError(f"The checkpoint does not fit a CGRSeg model.{misfit}")
    return {name: state_dict[official].reshape(ours.shape) for official, (name, ours) in expected.items()}


def _official_layout(name: str, module: torch.nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """Reshape a tensor to the reference's layout: some of its vectors are 1×1 convolutions or maps, and vice versa."""
    if name.endswith("layer_scale.scale"):
        return tensor.flatten()  # ours (C, 1, 1), theirs (C,)
    if isinstance(module, torch.nn.Linear) and name.endswith(".weight"):
        return tensor[:, :, None, None]
    if isinstance(module, torch.nn.LayerNorm):
        return tensor[:, None, None]
    return tensor


def _index_tensors(model: CGRSegForSemanticSegmentation) -> dict[str, torch.Tensor]:
    """Make the reference's constant distance indices, under its names."""
    indices = {}
    for name, module in model.named_modules():
        if not hasattr(module, "imagenet_table"):
            continue
        for attribute in ("table", "imagenet_table"):
            side = math.isqrt(getattr(module, attribute).shape[1])
            prefix, _, leaf = official_name(f"{name}.{attribute}").rpartition(".")
            indices[f"{prefix}.{_INDEX_OF_TABLE[leaf]}"] = position_distances(
                side // module.query_stride, module.query_stride
            )
    return indices


def _infer_settings(state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Infer the configuration from the shapes of the reference's tensors."""

    def shape(name: str) -> torch.Size:
        if name not in state_dict:
            raise ValueError(
                f"The checkpoint has no tensor {name}, so it is not of CGRSeg's reference code. It has "
                f"({len(state_dict)}):{enumerate_names(state_dict, most=10)}"
            )
        return state_dict[name].shape

    def count(pattern: str) -> int:
        return len({match[0] for name in state_dict if (match := re.match(pattern, name))})

    stages = [f"backbone.network.{index}" for index in (0, 2, 4, 6)]
    depths = [count(rf"{re.escape(stage)}\.\d+\.") for stage in stages]
    hidden_sizes = [shape(f"{stage}.0.mlp.fc1.weight")[1] for stage in stages]
    expansion_ratios = [
        [_ratio(shape(f"{stage}.{block}.mlp.fc1.weight")) for block in range(depth)]
        for stage, depth in zip(stages, depths)
    ]
    attention = f"{stages[3]}.{depths[3] - 1}.token_mixer"
    num_heads = shape(f"{attention}.talking_head1.weight")[0]
    key_channels, value_channels = shape(f"{attention}.q.0.weight")[0], shape(f"{attention}.v.0.weight")[0]
    pyramid = "decode_head.trans.transformer_blocks"
    num_labels, decoder_hidden_size = shape("decode_head.conv_seg.weight")[:2]
    return {
        "backbone_config": {
            "num_channels": shape("backbone.patch_embed.0.weight")[1],
            "image_size": math.isqrt(shape(f"{attention}.attention_biases_seg")[1]) * SIZE_DIVISOR,
            "hidden_sizes": hidden_sizes,
            "depths": depths,
            "num_attention_blocks": count(rf"{re.escape(stages[3])}\.\d+\.token_mixer\."),
            "mlp_expansion_ratios": expansion_ratios,
            "num_attention_heads": num_heads,
            "attention_key_size": key_channels // num_heads,
            "downsample_attention_key_size": shape("backbone.network.5.attn.k.0.weight")[0] // num_heads,
            "attention_value_ratio": value_channels // key_channels,
            "drop_path_rate": _preset_drop_path_rate(hidden_sizes, depths),
        },
        "num_labels": num_labels,
        "decoder_hidden_size": decoder_hidden_size,
        "strip_kernel_size": shape("decode_head.meta.0.token_mixer.excite.0.weight")[3],
        "square_kernel_size": shape("decode_head.meta.0.token_mixer.dwconv_hw.weight")[3],
        "num_pyramid_blocks": count(rf"{re.escape(pyramid)}\.\d+\."),
        "mlp_ratio": _ratio(shape("decode_head.meta.0.mlp.fc1.weight")),
        "loss_normalization": "all",
    }


def _ratio(weight_shape: torch.Size) -> int | float:
    """Divide output channels by input channels, as a whole number if possible."""
    ratio = weight_shape[0] / weight_shape[1]
    return int(ratio) if ratio.is_integer() else ratio


def _preset_drop_path_rate(hidden_sizes: list[int], depths: list[int]) -> float:
    """Look up the recipe's drop path rate for this size, which no tensor shows."""
    for preset in PRESETS.values():
        backbone = preset["backbone_config"]
        if (backbone["hidden_sizes"], backbone["depths"]) == (hidden_sizes, depths):
            return backbone.get("drop_path_rate", 0.0)
    return 0.0


def _class_names(checkpoint: Mapping[str, Any], num_labels: int) -> dict[int, str] | None:
    """Read class names from mmsegmentation's `meta`, if there are as many as classes."""
    meta = checkpoint.get("meta")
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if names is None or len(names) != num_labels:
        return None
    return dict(enumerate(map(str, names)))
