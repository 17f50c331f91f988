# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""One process or several, on whatever devices there are."""

import os
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin

from .messages import printable

# What autocast is told for each precision, and what Accelerate calls it.
AUTOCAST_TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
MIXED_PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}

_KNOWN_TYPES = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU, DistributedType.MULTI_XPU)


class _Accelerator(Accelerator):
    """Print names of files and classes so that the terminal does not obey control characters in them."""

    def print(self, *values: object, **options: Any) -> None:
        """Print in the main process only."""
        super().print(*map(printable, values), **options)


def make_accelerator(**options: Any) -> Accelerator:
    """
    Make an accelerator that knows the processes that a launcher has started, on CPUs as well.

    Args:
        **options: Of `accelerate.Accelerator`.

    Raises:
        ValueError: If a launcher started several processes, but each would work as if it were alone.
    """
    # An earlier accelerator of this process fixes the precision; transformers' Trainer resets it in the same way.
    AcceleratorState._reset_state()
    accelerator = _Accelerator(
        cpu=not torch.accelerator.is_available(),
        # The training loop accumulates by itself, whatever accelerate's configuration says.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        **options,
    )
    if accelerator.distributed_type not in _KNOWN_TYPES:
        raise ValueError(
            f"accelerate's configuration asks for {accelerator.distributed_type.value}, but only data parallelism is "
            "known here: choose several GPUs in accelerate config, or pass --multi_gpu."
        )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise ValueError(
            f"{started} processes were started, but they form a group of {accelerator.num_processes}: start them with "
            "accelerate launch on accelerators, or with torchrun on CPUs."
        )
    return accelerator


def leave_group() -> bool:
    """Leave the other processes at the end of a command; return whether this is the one that reports."""
    state = PartialState()
    state.destroy_process_group()
    return state.is_main_process
