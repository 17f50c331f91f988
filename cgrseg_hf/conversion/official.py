"""Checkpoints of the reference code (mmsegmentation 0.27) to CGRSegForSemanticSegmentation and back, bit for bit."""

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from ..configuration_cgrseg import PRESETS, SIZE_DIVISOR, CGRSegConfig, EfficientFormerV2Config
from ..modeling_cgrseg import CGRSegForSemanticSegmentation
from ..modeling_efficientformerv2 import EfficientFormerV2PositionBias, position_distances
from .files import find_state_dict, read_checkpoint
from .names import enumerate_names, official_name

# Constants that the reference keeps in its checkpoints: the index of every distance, for the two bias tables.
_INDEX_OF_TABLE = {"attention_biases": "attention_bias_idxs", "attention_biases_seg": "attention_bias_idxs_seg"}


def from_official(
    source: str | os.PathLike | Mapping[str, Any], **config_overrides: Any
) -> CGRSegForSemanticSegmentation:
    """
    Build a model from a checkpoint of the reference code.

    Size, pyramid depth, kernels and classes are read off the tensors; class names from the checkpoint's `meta` where
    it has them. As in the reference, the training loss is divided by all pixels (`loss_normalization="all"`).

    Args:
        source (`str`, `os.PathLike` or `Mapping`):
            A checkpoint file, or its content: a state dict, on its own or under `state_dict`, with or without the
            prefix `module.`. Where there are only the averaged weights of mmcv's EMA hook (prefix `ema_`), those are
            taken. Files are read with `weights_only=True`.
        **config_overrides:
            Fields of [`CGRSegConfig`] to set otherwise; a `backbone_config` dictionary changes single fields.

    Returns:
        `CGRSegForSemanticSegmentation`: in evaluation mode.

    Raises:
        ValueError: If tensors are missing, left over or of another shape (all are listed), or the file holds more
            than tensors and plain values.
        FileNotFoundError: If there is no such file.
    """
    checkpoint = read_checkpoint(source)
    state_dict = _without_ema(find_state_dict(checkpoint, "state_dict"))
    settings = _infer_settings(state_dict)
    id2label = _class_names(checkpoint, settings["num_labels"])
    if id2label is not None:
        settings["id2label"] = id2label
        settings["label2id"] = {name: index for index, name in id2label.items()}
    settings["backbone_config"] = {**settings["backbone_config"], **config_overrides.pop("backbone_config", {})}
    config = CGRSegConfig(**{**settings, **config_overrides})

    model = CGRSegForSemanticSegmentation(config)
    model.load_state_dict(_to_ours(state_dict, model))
    return model.eval()


def to_official(model: CGRSegForSemanticSegmentation) -> dict[str, torch.Tensor]:
    """
    The state dict of the reference code for the same model, every key of it.

    Args:
        model (`CGRSegForSemanticSegmentation`):
            A model with an EfficientFormerV2 backbone and none of the ablation switches off: the reference has no
            other.

    Returns:
        `dict[str, torch.Tensor]`: copies on the CPU, under the names `backbone.*` and `decode_head.*`.

    Raises:
        ValueError: If the reference has no such model.
    """
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


def _without_ema(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the second copy that mmcv's EMA hook keeps (`ema_backbone_patch_embed_0_weight`), or take it if alone."""
    plain = {name: tensor for name, tensor in state_dict.items() if not name.startswith("ema_")}
    if plain or not state_dict:
        return plain
    return {name.removeprefix("ema_"): tensor for name, tensor in state_dict.items()}


def _to_ours(state_dict: dict[str, torch.Tensor], model: CGRSegForSemanticSegmentation) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors under our names and in our shapes, all accounted for."""
    expected = {official_name(name): (name, tensor) for name, tensor in model.state_dict().items()}
    indices = _index_tensors(model)
    missing = expected.keys() - state_dict.keys()
    left_over = state_dict.keys() - expected.keys() - indices.keys()
    misshapen = []
    for name, (_, ours) in expected.items():
        if name in state_dict and not _same_but_for_ones(state_dict[name], ours):
            misshapen.append(f"{name}: {tuple(state_dict[name].shape)}, expected {tuple(ours.shape)}")
    for name, index in indices.items():
        if name in state_dict and not torch.equal(state_dict[name], index):
            misshapen.append(f"{name}: distances are numbered otherwise")
    if missing or left_over or misshapen:
        raise ValueError(
            "The checkpoint does not fit a CGRSeg model."
            + (f"\nMissing ({len(missing)}):{enumerate_names(missing)}" if missing else "")
            + (f"\nLeft over ({len(left_over)}):{enumerate_names(left_over)}" if left_over else "")
            + (f"\nDifferent ({len(misshapen)}):{enumerate_names(misshapen)}" if misshapen else "")
        )
    return {name: state_dict[official].reshape(ours.shape) for official, (name, ours) in expected.items()}


def _same_but_for_ones(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two shapes agree once dimensions of size 1 are left out."""
    return [size for size in one.shape if size != 1] == [size for size in other.shape if size != 1]


def _official_layout(name: str, module: torch.nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """Vectors that the reference holds as 1×1 convolutions and normalised pictures, and the other way round."""
    if name.endswith("layer_scale.scale"):
        return tensor.flatten()  # ours (C, 1, 1), theirs (C,)
    if isinstance(module, torch.nn.Linear) and name.endswith(".weight"):
        return tensor[:, :, None, None]
    if isinstance(module, torch.nn.LayerNorm):
        return tensor[:, None, None]
    return tensor


def _index_tensors(model: CGRSegForSemanticSegmentation) -> dict[str, torch.Tensor]:
    """The reference's constant distance indices, under its names."""
    indices = {}
    for name, module in model.named_modules():
        if not isinstance(module, EfficientFormerV2PositionBias):
            continue
        for attribute in ("table", "imagenet_table"):
            side = math.isqrt(getattr(module, attribute).shape[1])
            prefix, _, leaf = official_name(f"{name}.{attribute}").rpartition(".")
            indices[f"{prefix}.{_INDEX_OF_TABLE[leaf]}"] = position_distances(
                side // module.query_stride, module.query_stride
            )
    return indices


def _infer_settings(state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What the shapes of the reference's tensors say about the configuration."""

    def shape(name: str) -> torch.Size:
        if name not in state_dict:
            raise ValueError(
                f"The checkpoint has no tensor {name}, so it is none of CGRSeg's reference code. It has "
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
    """Output channels over input channels, a whole number where it is one."""
    ratio = weight_shape[0] / weight_shape[1]
    return int(ratio) if ratio.is_integer() else ratio


def _preset_drop_path_rate(hidden_sizes: list[int], depths: list[int]) -> float:
    """The recipe's drop path rate for this size, which no tensor shows."""
    for preset in PRESETS.values():
        backbone = preset["backbone_config"]
        if (backbone["hidden_sizes"], backbone["depths"]) == (hidden_sizes, depths):
            return backbone.get("drop_path_rate", 0.0)
    return 0.0


def _class_names(checkpoint: Mapping[str, Any], num_labels: int) -> dict[int, str] | None:
    """Class names from mmsegmentation's `meta`, if there are as many as classes."""
    meta = checkpoint.get("meta")
    names = meta.get("CLASSES") if isinstance(meta, Mapping) else None
    if names is None or len(names) != num_labels:
        return None
    return dict(enumerate(map(str, names)))
