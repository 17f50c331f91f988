# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A moving average of the weights."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """
    An exponential moving average of a model's weights and statistics, updated by `update_parameters(model)`.

    After n updates the decay is at most (1 + n) / (10 + n), so that the first, untrained weights are soon forgotten.
    """

    @torch.no_grad()
    def update(averages: list[torch.Tensor], values: list[torch.Tensor], _: torch.Tensor) -> None:
        count = int(averaged.n_averaged)  # on the CPU; what is handed over is on the weights' device
        now = min(decay, (1 + count) / (10 + count))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - now)
        else:  # counters and indices
            torch._foreach_copy_(averages, values)

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return averaged
