# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Names of tensors: rules from ours to theirs, each a pattern and its replacement."""

import re
from collections.abc import Iterable

import torch

Rules = tuple[tuple[str, str], ...]

# The reference's decoder (mmsegmentation's `decode_head`), for names of CGRSegForSemanticSegmentation.
OFFICIAL_DECODER: Rules = (
    (r"^cgrseg\.pyramid_context\.blocks\.(\d+)\.", r"decode_head.trans.transformer_blocks.\1."),
    (r"^cgrseg\.reconstruction\.calibrations\.(\d+)\.", r"decode_head.meta.\1."),
    (r"\.attention\.horizontal_strip\.", ".token_mixer.excite.0."),
    (r"\.attention\.normalization\.", ".token_mixer.excite.1."),
    (r"\.attention\.vertical_strip\.", ".token_mixer.excite.3."),
    (r"\.attention\.local\.", ".token_mixer.dwconv_hw."),
    (r"^(decode_head\.(?:trans\.transformer_blocks|meta)\.\d+)\.normalization\.", r"\1.norm."),
    (r"^(decode_head\.(?:trans\.transformer_blocks|meta)\.\d+)\.expansion\.", r"\1.mlp.fc1."),
    (r"^(decode_head\.(?:trans\.transformer_blocks|meta)\.\d+)\.projection\.", r"\1.mlp.fc2."),
    (r"\.layer_scale\.scale$", ".gamma"),
    (r"^cgrseg\.reconstruction\.fusions\.(\d+)\.feature_projection\.", r"decode_head.SIM.\1.fuse1.conv."),
    (r"^cgrseg\.reconstruction\.fusions\.(\d+)\.feature_normalization\.", r"decode_head.SIM.\1.fuse1.bn."),
    (r"^cgrseg\.reconstruction\.fusions\.(\d+)\.context_projection\.", r"decode_head.SIM.\1.fuse2.conv."),
    (r"^cgrseg\.reconstruction\.fusions\.(\d+)\.context_normalization\.", r"decode_head.SIM.\1.fuse2.bn."),
    (r"^cgrseg\.reconstruction\.lateral_projections\.", "decode_head.conv."),
    (r"^head\.coarse_convolution\.", "decode_head.linear_fuse.conv."),
    (r"^head\.coarse_normalization\.", "decode_head.linear_fuse.bn."),
    (r"^head\.classifier\.", "decode_head.conv_seg."),
    (r"^head\.class_score\.", "decode_head.lgc.conv_mask."),
    (r"^head\.gate_reduction\.", "decode_head.lgc.channel_mul_conv.0."),
    (r"^head\.gate_normalization\.", "decode_head.lgc.channel_mul_conv.1."),
    (r"^head\.gate_projection\.", "decode_head.lgc.channel_mul_conv.3."),
)

# EfficientFormerV2's authors, for names of EfficientFormerV2Backbone. The reference has them behind `backbone.`.
OFFICIAL_BACKBONE: Rules = (
    (r"^stem\.first\.convolution\.", "patch_embed.0."),
    (r"^stem\.first\.normalization\.", "patch_embed.1."),
    (r"^stem\.second\.convolution\.", "patch_embed.3."),
    (r"^stem\.second\.normalization\.", "patch_embed.4."),
    # Stages and the halvings between them are numbered through: 0, 2, 4, 6 and 1, 3, 5.
    (r"^stages\.0\.layers\.", "network.0."),
    (r"^stages\.1\.layers\.", "network.2."),
    (r"^stages\.2\.layers\.", "network.4."),
    (r"^stages\.3\.layers\.", "network.6."),
    (r"^stages\.1\.downsample\.convolution\.convolution\.", "network.1.proj."),
    (r"^stages\.1\.downsample\.convolution\.normalization\.", "network.1.norm."),
    (r"^stages\.2\.downsample\.convolution\.convolution\.", "network.3.proj."),
    (r"^stages\.2\.downsample\.convolution\.normalization\.", "network.3.norm."),
    (r"^stages\.3\.downsample\.convolution\.convolution\.", "network.5.conv."),
    (r"^stages\.3\.downsample\.convolution\.normalization\.", "network.5.bn."),
    (r"^stages\.3\.downsample\.attention\.query_local\.", "network.5.attn.q.local.0."),
    (r"^stages\.3\.downsample\.attention\.query\.convolution\.", "network.5.attn.q.proj.0."),
    (r"^stages\.3\.downsample\.attention\.query\.normalization\.", "network.5.attn.q.proj.1."),
    (r"^stages\.3\.downsample\.attention\.", "network.5.attn."),
    (r"\.mlp\.expansion\.convolution\.", ".mlp.fc1."),
    (r"\.mlp\.expansion\.normalization\.", ".mlp.norm1."),
    (r"\.mlp\.depthwise\.convolution\.", ".mlp.mid."),
    (r"\.mlp\.depthwise\.normalization\.", ".mlp.mid_norm."),
    (r"\.mlp\.projection\.convolution\.", ".mlp.fc2."),
    (r"\.mlp\.projection\.normalization\.", ".mlp.norm2."),
    (r"\.attention_scale\.scale$", ".layer_scale_1"),
    (r"\.mlp_scale\.scale$", ".layer_scale_2"),
    (r"\.attention\.", ".token_mixer."),
    (r"\.downsample\.convolution\.", ".stride_conv.0."),
    (r"\.downsample\.normalization\.", ".stride_conv.1."),
    (r"\.query\.convolution\.", ".q.0."),
    (r"\.query\.normalization\.", ".q.1."),
    (r"\.key\.convolution\.", ".k.0."),
    (r"\.key\.normalization\.", ".k.1."),
    (r"\.value\.convolution\.", ".v.0."),
    (r"\.value\.normalization\.", ".v.1."),
    (r"\.local\.convolution\.", ".v_local.0."),
    (r"\.local\.normalization\.", ".v_local.1."),
    (r"\.talking_heads_scores\.", ".talking_head1."),
    (r"\.talking_heads_weights\.", ".talking_head2."),
    (r"\.projection\.convolution\.", ".proj.1."),
    (r"\.projection\.normalization\.", ".proj.2."),
    (r"\.position_bias\.table$", ".attention_biases_seg"),
    (r"\.position_bias\.imagenet_table$", ".attention_biases"),
)

# timm's, for names of EfficientFormerV2Backbone; it has no table but the ImageNet one.
TIMM_BACKBONE: Rules = (
    (r"^stem\.first\.", "stem.conv1."),
    (r"^stem\.second\.", "stem.conv2."),
    (r"^stages\.(\d)\.layers\.", r"stages.\1.blocks."),
    (r"^stages\.(\d)\.downsample\.convolution\.", r"stages.\1.downsample.conv."),
    (r"^stages\.(\d)\.downsample\.attention\.query_local\.", r"stages.\1.downsample.attn.q.local."),
    (r"^stages\.(\d)\.downsample\.attention\.query\.", r"stages.\1.downsample.attn.q.proj."),
    (r"^stages\.(\d)\.downsample\.attention\.", r"stages.\1.downsample.attn."),
    (r"\.mlp\.expansion\.", ".mlp.fc1."),
    (r"\.mlp\.depthwise\.", ".mlp.mid."),
    (r"\.mlp\.projection\.", ".mlp.fc2."),
    (r"\.attention_scale\.scale$", ".ls1.gamma"),
    (r"\.mlp_scale\.scale$", ".ls2.gamma"),
    (r"\.attention\.", ".token_mixer."),
    (r"\.token_mixer\.downsample\.", ".token_mixer.stride_conv."),
    (r"\.query\.", ".q."),
    (r"\.key\.", ".k."),
    (r"\.value\.", ".v."),
    (r"\.local\.(convolution|normalization)\.", r".v_local.\1."),
    (r"\.talking_heads_scores\.", ".talking_head1."),
    (r"\.talking_heads_weights\.", ".talking_head2."),
    (r"\.projection\.", ".proj."),
    (r"\.position_bias\.imagenet_table$", ".attention_biases"),
    (r"\.convolution\.", ".conv."),
    (r"\.normalization\.", ".bn."),
)


def rename(name: str, rules: Rules) -> str:
    """Apply every rule in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def official_name(name: str) -> str:
    """Translate the name of a tensor of CGRSegForSemanticSegmentation to the reference's."""
    prefix = "cgrseg.backbone."
    if name.startswith(prefix):
        return "backbone." + rename(name.removeprefix(prefix), OFFICIAL_BACKBONE)
    return rename(name, OFFICIAL_DECODER)


def same_but_for_ones(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Compare two shapes without dimensions of size 1: the same tensor may be laid out differently."""
    return [size for size in one.shape if size != 1] == [size for size in other.shape if size != 1]


def describe_misfit(missing: Iterable[str], left_over: Iterable[str], different: Iterable[str]) -> str:
    """List what does not fit in a checkpoint, for an error message; empty if it fits."""
    parts = {"Missing": list(missing), "Left over": list(left_over), "Different": list(different)}
    return "".join(f"\n{title} ({len(names)}):{enumerate_names(names)}" for title, names in parts.items() if names)


def enumerate_names(names: Iterable[str], most: int = 20) -> str:
    """List names for an error message, one a line; only the count of the rest if there are many."""
    names = sorted(names)
    lines = "".join(f"\n  {name}" for name in names[:most])
    return f"{lines}\n  … and {len(names) - most} more" if len(names) > most else lines
