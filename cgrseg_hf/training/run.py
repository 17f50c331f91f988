# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The state of a training run: what is saved, restored and evaluated."""

import math
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from ..data import SegmentationData
from ..evaluation import EvaluationResult, evaluate_model
from ..processes import AUTOCAST_TYPES
from . import checkpoints
from .config import TrainingConfig
from .ema import average_weights
from .optimizer import learning_rate_factor, make_optimizer


class TrainingRun:
    """
    Model, optimiser, schedule and how far they have come.

    Args:
        config ([`TrainingConfig`]): Of the run.
        accelerator (`Accelerator`): Knows the processes and their devices.
        model (`PreTrainedModel`): What is trained, on the accelerator's device.
        image_processor (`BaseImageProcessor`): Is saved with the model.
        max_steps (`int`): Steps of the whole run.

    Attributes:
        step (`int`): Steps done.
        best_mean_iou (`float`, *optional*): The best that an evaluation of this run has given.
        evaluated_step (`int`, *optional*): The step of the last evaluation.
    """

    def __init__(
        self,
        config: TrainingConfig,
        accelerator: Accelerator,
        model: PreTrainedModel,
        image_processor: BaseImageProcessor,
        max_steps: int,
    ):
        self.config = config
        self.accelerator = accelerator
        self.image_processor = image_processor
        self.output = Path(config.output)
        self.checkpoint_folder = self.output / "checkpoints"
        self.averaged = average_weights(model, config.ema_decay) if config.ema_decay else None
        if config.sync_batch_norm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # its weights are saved under the same names
        self.model = model
        self.optimizer = make_optimizer(
            model, config.learning_rate, config.head_learning_rate_factor, config.weight_decay, config.betas
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: learning_rate_factor(
                step, max_steps, config.warmup_steps, config.warmup_factor, config.poly_power
            ),
        )
        self.step = 0
        self.best_mean_iou: float | None = None
        self.evaluated_step: int | None = None

    @property
    def shipped_model(self) -> PreTrainedModel:
        """The model that is evaluated and kept: the average of the weights where there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def train_mode(self) -> None:
        """Set the model to training, but for batch normalisation that is frozen."""
        self.model.train()
        if self.config.freeze_batch_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def has_finite_weights(self) -> bool:
        """Whether no weight or statistic has become infinite or NaN."""
        tensors = [tensor for tensor in self.model.state_dict().values() if tensor.is_floating_point()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())

    def save_checkpoint(self) -> None:
        """Write a checkpoint to go on from; all processes call it."""
        scaler = self.accelerator.scaler
        checkpoints.save_checkpoint(
            self.checkpoint_folder,
            self.step,
            lambda folder: self._write_model(folder, self.model),
            {
                "step": self.step,
                "best_mean_iou": self.best_mean_iou,
                "evaluated_step": self.evaluated_step,
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": None if scaler is None else scaler.state_dict(),
                "averaged": None if self.averaged is None else self.averaged.state_dict(),
            },
            self.accelerator.process_index,
            self.accelerator.wait_for_everyone,
            self.config.keep_checkpoints,
        )

    def restore(self, checkpoint: Path) -> None:
        """Take up where a checkpoint was written, before the accelerator prepares the model."""
        state = checkpoints.load_state(checkpoint)
        self.step, self.best_mean_iou = state["step"], state["best_mean_iou"]
        self.evaluated_step = state["evaluated_step"]
        self.model.load_state_dict(load_file(checkpoint / "model.safetensors"))
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.accelerator.scaler is not None and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def evaluate(self, data: SegmentationData) -> EvaluationResult:
        """Score the shipped model on a split, and keep it in `best` if it has never been better."""
        accelerator = self.accelerator
        if accelerator.num_processes > 1:  # processes without synchronised statistics have each their own
            for buffer in self.shipped_model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        result = evaluate_model(
            self.shipped_model,
            self.image_processor,
            data,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            reduce=lambda tensor: accelerator.reduce(tensor.to(accelerator.device), "sum"),
            limit=self.config.evaluation_limit,
            autocast=AUTOCAST_TYPES[self.config.precision],
            num_workers=self.config.num_workers,
            progress=accelerator.is_local_main_process,
        )
        mean_iou = float(result.metrics["mean_iou"])
        best = self.best_mean_iou
        accelerator.print(
            f"Step {self.step}: mean IoU {mean_iou:.4f} on {result.num_images} images"
            + (f" (best so far {best:.4f})" if best is not None else "")
        )
        self.evaluated_step = self.step
        if not math.isnan(mean_iou) and (best is None or mean_iou > best):
            self.best_mean_iou = mean_iou
            self.write_shipped_model(self.output / "best")
        return result

    def write_shipped_model(self, folder: Path) -> None:
        """Write the model that is kept as a folder for `from_pretrained`."""
        if self.accelerator.is_main_process:
            checkpoints.write_folder(folder, lambda unfinished: self._write_model(unfinished, self.shipped_model))
        self.accelerator.wait_for_everyone()

    def _write_model(self, folder: Path, model: PreTrainedModel) -> None:
        shows_bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # it would tear that of the training apart
        model.save_pretrained(folder)
        if shows_bars:
            logging.enable_progress_bar()
        self.image_processor.save_pretrained(folder)
