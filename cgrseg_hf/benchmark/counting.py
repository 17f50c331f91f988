# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Count the parameters and multiply-adds of any model."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# The paper's millions of parameters and GFLOPs at 512×512 pixels and 150 classes. By our count these are multiply-adds:
# of convolutions alone for CGRSeg, of everything for SegFormer.
PAPER_FIGURES: dict[str, tuple[float, float]] = {
    "t": (9.4, 4.0),
    "b": (18.1, 7.6),
    "l": (35.7, 14.9),
    "segformer-b0": (3.8, 8.4),
    "segformer-b1": (13.7, 15.9),
    "segformer-b2": (27.5, 62.4),
}


@dataclass(frozen=True)
class ModelCount:
    """
    Parameters, and multiply-adds for one image. Normalisations, activations, sums and resizing are not counted.

    Args:
        parameters (`int`): Learned numbers.
        convolutions (`int`): Multiply-adds of convolutions, which is what the paper counts for CGRSeg.
        linear_layers (`int`): Multiply-adds of products with a weight matrix.
        other_products (`int`): Multiply-adds of products of two activations, such as attention's.
    """

    parameters: int
    convolutions: int
    linear_layers: int
    other_products: int

    @property
    def everything(self) -> int:
        """Multiply-adds of convolutions and matrix products of all kinds."""
        return self.convolutions + self.linear_layers + self.other_products


def count_model(model: nn.Module, size: tuple[int, int], num_channels: int = 3) -> ModelCount:
    """
    Count what a model learns and computes, without computing anything.

    Args:
        model (`nn.Module`): The model, called with `pixel_values`. It is not changed.
        size (`tuple[int, int]`): Height and width of the input in pixels.
        num_channels (`int`, *optional*, defaults to 3): Channels of the input.

    Returns:
        [`ModelCount`]: the operations that the model calls. What it saves by arranging them well is not counted.
    """
    shapes = copy.deepcopy(model).to("meta").eval()
    dtype = next(model.parameters()).dtype
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        shapes(pixel_values=torch.empty(1, num_channels, *size, device="meta", dtype=dtype))
    by_kind = {"convolutions": 0, "linear_layers": 0, "other_products": 0}
    for operator, flops in counter.get_flop_counts().get("Global", {}).items():
        by_kind[_kind(str(operator))] += flops // 2  # two operations make a multiply-add
    return ModelCount(parameters=sum(parameter.numel() for parameter in model.parameters()), **by_kind)


def _kind(operator: str) -> str:
    if "conv" in operator:
        return "convolutions"
    return "linear_layers" if operator in ("aten.mm", "aten.addmm") else "other_products"
