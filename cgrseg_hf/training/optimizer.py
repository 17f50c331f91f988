# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""AdamW with the recipe's parameter groups, the learning rate over time, and a moving average of the weights."""

import re

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

# The backbone's normalizations that decay: in the reference their names do not say "norm".
_DECAYING_NORMALIZATION = re.compile(
    r"cgrseg\.backbone\.(stem|.+\.attention|stages\.3\.downsample)\..*\bnormalization\."
)


def make_optimizer(
    model: nn.Module,
    learning_rate: float,
    head_learning_rate_factor: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> torch.optim.AdamW:
    """
    Make AdamW with the groups of [`find_group`].

    Args:
        model (`nn.Module`): CGRSeg, or any other model.
        learning_rate (`float`): Learning rate of the backbone.
        head_learning_rate_factor (`float`): How many times faster the head learns.
        weight_decay (`float`): Weight decay of the groups that decay.
        betas (`tuple[float, float]`): Decay rates of the two moments.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(find_group(name), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": learning_rate * (head_learning_rate_factor if is_head else 1),
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (is_head, decays), parameters in groups.items()
        ],
        betas=betas,
    )


def find_group(name: str) -> tuple[bool, bool]:
    """
    Find out if a parameter learns at the head's rate, and if it decays.

    The head is CGRSeg's whole decoder, and any parameter with `head` in its name: the heads of other models, and the
    talking heads of CGRSeg's backbone. Everything in it decays. Outside it, normalization does not decay, except for
    those parts of CGRSeg's backbone where the reference lets it.
    """
    is_decoder = name.startswith("cgrseg.") and not name.startswith("cgrseg.backbone.")
    if is_decoder or "head" in name:
        return True, True
    return False, "norm" not in name or _DECAYING_NORMALIZATION.match(name) is not None


def learning_rate_factor(
    step: int, max_steps: int, warmup_steps: int, warmup_factor: float, poly_power: float
) -> float:
    """
    Compute the factor of the learning rate at a step, counted from 0.

    A polynomial decrease to 0 at `max_steps`; during the warm-up it is multiplied by a line from `warmup_factor` to 1.
    """
    factor = max(1 - step / max_steps, 0.0) ** poly_power
    if step < warmup_steps:
        factor *= 1 - (1 - step / warmup_steps) * (1 - warmup_factor)
    return factor


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """
    Make an exponential moving average of a model's weights and statistics, updated by `update_parameters(model)`.

    After n updates the decay is at most (1 + n) / (10 + n), so that the first, untrained weights are soon forgotten.
    """

    def update(averages: list[torch.Tensor], values: list[torch.Tensor], device_count: torch.Tensor) -> None:
        if averages[0].is_floating_point():
            count = int(averaged.n_averaged)  # on the CPU, unlike `device_count`
            get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averages, values, device_count)
        else:  # counters and indices
            for average, value in zip(averages, values):
                average.copy_(value)

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return averaged
