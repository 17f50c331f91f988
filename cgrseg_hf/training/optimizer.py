# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""AdamW with the recipe's rules for groups of parameters, and its learning rate over time."""

import torch
from torch import nn

from ..conversion.names import official_name

# Rules by part of a tensor's name in the reference, the first that fits holds: (part, learns at the head's rate,
# decays). They are sorted as the reference sorts them, longest first.
_RULES = (("absolute_pos_embed", False, False), ("head", True, True), ("norm", False, False))


def make_optimizer(
    model: nn.Module,
    learning_rate: float,
    head_learning_rate_factor: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> torch.optim.AdamW:
    """
    AdamW whose groups follow the recipe's rules.

    The rules speak of the reference's names, so that they also meet what only there has such a name: the whole
    decoder and the talking heads of the backbone learn at the head's rate.

    Args:
        model (`nn.Module`): CGRSeg, or any other model, whose own names then count.
        learning_rate (`float`): Of the backbone.
        head_learning_rate_factor (`float`): How many times that of what has `head` in its name.
        weight_decay (`float`): Of what has none of `norm` and `absolute_pos_embed` in its name, and of the head.
        betas (`tuple[float, float]`): Decay rates of the two moments.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(find_rule(name), []).append(parameter)
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


def find_rule(name: str) -> tuple[bool, bool]:
    """Whether a parameter learns at the head's rate, and whether it decays."""
    reference_name = official_name(name)
    for part, is_head, decays in _RULES:
        if part in reference_name:
            return is_head, decays
    return False, True


def learning_rate_factor(
    step: int, max_steps: int, warmup_steps: int, warmup_factor: float, poly_power: float
) -> float:
    """
    By what the learning rate of a step, counted from 0, is multiplied.

    A polynomial decrease to 0 at `max_steps`; during the warm-up it is multiplied by a line from `warmup_factor` to 1.
    """
    factor = max(1 - step / max_steps, 0.0) ** poly_power
    if step < warmup_steps:
        factor *= 1 - (1 - step / warmup_steps) * (1 - warmup_factor)
    return factor
