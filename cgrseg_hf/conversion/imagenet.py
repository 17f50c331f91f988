# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""ImageNet weights of EfficientFormerV2 into a backbone: the authors' files and timm's."""

import logging
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import nn

from ..model.modeling_efficientformerv2 import EfficientFormerV2Backbone, EfficientFormerV2PositionBias
from ..pretrained.loading import checked_downloads
from ..pretrained.locating import ask_hub
from .files import find_state_dict, read_checkpoint
from .names import OFFICIAL_BACKBONE, TIMM_BACKBONE, describe_misfit, rename, same_but_for_ones

logger = logging.getLogger(__name__)

# Tensors of a file beyond the backbone: the final norm, the classifiers, constant indices and tables of another grid.
_UNUSED_IN_A_BACKBONE = re.compile(r"^(norm|head|head_dist|dist_head)\.|\.attention_bias(es_seg|_idxs|_idxs_seg)$")


_TIMM_NAME = re.compile(r"(?:hf[-_]hub:)?(?:timm/)?(efficientformerv2_(?:s0|s1|s2|l))(?:\.snap_dist_in1k)?")


@dataclass(frozen=True)
class ImageNetReport:
    """
    The weights that [`load_imagenet_backbone`] used.

    Args:
        source (`str`): Source of the weights.
        naming (`str`): Their names: `"official"` or `"timm"`.
        loaded (`tuple[str, ...]`): The backbone's tensors that were filled.
        unused (`tuple[str, ...]`): The checkpoint's tensors that a backbone has no place for.
        position_bias (`str`): `"copied"`, `"resized"` or `"zero"`.
    """

    source: str
    naming: Literal["official", "timm"]
    loaded: tuple[str, ...]
    unused: tuple[str, ...]
    position_bias: Literal["copied", "resized", "zero"]

    def __str__(self) -> str:
        return (
            f"{len(self.loaded)} tensors of {self.source} ({self.naming} names) loaded, position biases "
            f"{self.position_bias}, {len(self.unused)} tensors unused (classifier, final norm, indices)"
        )


def load_imagenet_backbone(
    model: nn.Module,
    source: str | os.PathLike | Mapping[str, Any],
    position_bias: Literal["resize", "zero"] = "resize",
) -> ImageNetReport:
    """
    Fill a model's EfficientFormerV2 backbone with ImageNet weights, in place.

    Args:
        model (`torch.nn.Module`):
            An [`EfficientFormerV2Backbone`], or a model that has one.
        source (`str`, `os.PathLike` or `Mapping`):
            A file of the authors (`eformer_s1_450.pth`) or of timm (`model.safetensors`), a folder with the latter, a
            state dict, the Hub id of a timm model (`timm/efficientformerv2_s1.snap_dist_in1k`), or timm's own name
            for it (`efficientformerv2_s1`).
        position_bias (`str`, *optional*, defaults to `"resize"`):
            The ImageNet biases are for 224×224 pixels. `"resize"` fits them to the backbone's `image_size`, at 224
            they are copied; `"zero"` starts at zero, as the reference code does.

    Returns:
        `ImageNetReport`: it is logged too.

    Raises:
        ValueError: If the model has no EfficientFormerV2 backbone, or tensors are missing, left over or of another
            shape (all are listed).
    """
    if position_bias not in ("resize", "zero"):
        raise ValueError(f"position_bias={position_bias!r} is unknown: use 'resize' or 'zero'.")
    # By name: a model loaded as remote code has a class of its own.
    class_name = EfficientFormerV2Backbone.__name__
    backbone = next((module for module in model.modules() if type(module).__name__ == class_name), None)
    if backbone is None:
        raise ValueError(f"{type(model).__name__} has no EfficientFormerV2Backbone to fill.")
    name = "the state dict" if isinstance(source, Mapping) else str(source)
    state_dict = find_state_dict(read_checkpoint(_locate(source)), "model", "state_dict")
    state_dict = {_plain_name(key): tensor for key, tensor in state_dict.items()}
    naming, rules = (
        ("timm", TIMM_BACKBONE) if "stem.conv1.conv.weight" in state_dict else ("official", OFFICIAL_BACKBONE)
    )

    # The bias table in use is made from the ImageNet one below.
    expected = {
        rename(ours, rules): (ours, tensor)
        for ours, tensor in backbone.state_dict().items()
        if not ours.endswith("position_bias.table")
    }
    _check_fit(state_dict, expected, name)
    backbone.load_state_dict(
        {ours: state_dict[theirs].reshape(tensor.shape) for theirs, (ours, tensor) in expected.items()}, strict=False
    )
    biases = [module for module in backbone.modules() if hasattr(module, "imagenet_table")]
    used = {_fill_table(bias, position_bias) for bias in biases}
    report = ImageNetReport(
        source=name,
        naming=naming,
        loaded=tuple(ours for ours, _ in expected.values()),
        unused=tuple(sorted(state_dict.keys() - expected.keys())),
        position_bias=used.pop() if used else "zero",
    )
    logger.info("%s", report)
    return report


@torch.no_grad()
def _fill_table(bias: EfficientFormerV2PositionBias, method: str) -> Literal["copied", "resized", "zero"]:
    """Fill the table in use from the ImageNet one."""
    if method == "zero":
        bias.table.zero_()
        return "zero"
    if bias.table.shape == bias.imagenet_table.shape:
        bias.table.copy_(bias.imagenet_table)
        return "copied"
    num_heads, size = bias.imagenet_table.shape
    by_distance = bias.imagenet_table.reshape(1, num_heads, math.isqrt(size), -1)  # (|Δy|, |Δx|)
    side = math.isqrt(bias.table.shape[1])
    # Corners aligned: distance 0 stays distance 0.
    resized = nn.functional.interpolate(by_distance, size=(side, side), mode="bicubic", align_corners=True)
    bias.table.copy_(resized.reshape(num_heads, -1))
    return "resized"


def _locate(source: str | os.PathLike | Mapping[str, Any]) -> Path | Mapping[str, Any]:
    """Find the local file, downloaded first if the source is a Hub id or timm's short name."""
    if isinstance(source, Mapping):
        return source
    path = Path(source)
    if path.is_dir():
        return path / "model.safetensors"
    if path.exists() or path.suffix in (".pth", ".pt", ".bin", ".safetensors"):
        return path
    repo_id = str(source)
    if match := _TIMM_NAME.fullmatch(repo_id):
        repo_id = f"timm/{match[1]}.snap_dist_in1k"
    reason = None
    try:
        reason = ask_hub(repo_id)
        with checked_downloads(repo_id):
            return Path(hf_hub_download(repo_id, "model.safetensors", local_files_only=reason is not None))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = reason or str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"{source!r} is not a local file or folder, and model.safetensors of {repo_id!r} could not be downloaded "
            f"({reason}). Pass a local file with the weights, or train from random ones (--backbone-weights none)."
        ) from None


def _plain_name(name: str) -> str:
    """Remove the prefix of a whole model, and that of timm's `features_only` wrapper (`stages_0.`)."""
    return re.sub(r"^stages_(\d)\.", r"stages.\1.", name.removeprefix("backbone."))


def _check_fit(state_dict: dict[str, torch.Tensor], expected: dict[str, tuple[str, torch.Tensor]], source: str) -> None:
    different = [
        f"{name}: {tuple(state_dict[name].shape)}, expected {tuple(ours.shape)}"
        for name, (_, ours) in expected.items()
        if name in state_dict and not same_but_for_ones(state_dict[name], ours)
    ]
    left_over = {name for name in state_dict.keys() - expected.keys() if not _UNUSED_IN_A_BACKBONE.search(name)}
    misfit = describe_misfit(expected.keys() - state_dict.keys(), left_over, different)
    if misfit:
        raise ValueError(
            f"{source} does not fit this backbone; compare its size with the model's hidden_sizes and depths.{misfit}"
        )
