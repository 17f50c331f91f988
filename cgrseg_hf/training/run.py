# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The state of a training run: what is saved, restored and evaluated."""

import contextlib
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from ..data import SegmentationData
from ..evaluation import EvaluationResult, evaluate_model
from ..utils.processes import AUTOCAST_TYPES
from . import checkpoints
from .config import TrainingConfig
from .ema import average_weights
from .loss import loss_weight, summed_loss
from .optimizer import learning_rate_factor, make_optimizer


class TrainingRun:
    """
    Model, optimiser, schedule and how far they have come.

    Args:
        config ([`TrainingConfig`]): Of the run.
        accelerator (`Accelerator`): Knows the processes and their devices.
        model (`PreTrainedModel`): What is trained.
        image_processor (`BaseImageProcessor`): Is saved with the model.
        class_weights (`torch.Tensor` of shape `(num_labels,)`, *optional*): How much a pixel of each class counts.
        ignore_index (`int`): Label of pixels that do not count.
        max_steps (`int`): Steps of the whole run.
        warmup_steps (`int`): Steps over which the learning rate rises.

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
        class_weights: torch.Tensor | None,
        ignore_index: int,
        max_steps: int,
        warmup_steps: int,
    ):
        self.config = config
        self.accelerator = accelerator
        self.image_processor = image_processor
        # Labels are weighed on the host, where they come from, and the loss is computed on the device.
        self._host_class_weights = class_weights
        self._class_weights = None if class_weights is None else class_weights.to(accelerator.device)
        self.ignore_index = ignore_index
        model.to(accelerator.device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
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
            lambda step: learning_rate_factor(step, max_steps, warmup_steps, config.warmup_factor, config.poly_power),
        )
        self.step = 0
        self.best_mean_iou: float | None = None
        self.evaluated_step: int | None = None

    def prepare(self) -> None:
        """Wrap model and optimiser for the processes and the precision, and set the model to training."""
        self._prepared_model, self._prepared_optimizer = self.accelerator.prepare(self.model, self.optimizer)
        if self.config.compile:
            self._prepared_model = torch.compile(self._prepared_model)
        self.train_mode()

    def take_step(self, parts: list[dict[str, Any]], wish_to_stop: bool) -> "Readout":
        """
        Update the weights by a batch.

        Args:
            parts (`list[dict]`): This process's share of the batch, as `read_batches` gives it.
            wish_to_stop (`bool`): Whether this process was told to stop.

        Returns:
            [`Readout`] of the whole batch's loss, and of how many processes wish to stop.
        """
        accelerator, config, device = self.accelerator, self.config, self.accelerator.device
        # The one exchange before a step: what the whole batch weighs, and whether a process was told to stop.
        if config.loss_normalization == "all":
            weight = sum(part["labels"].numel() for part in parts)
        else:
            weight = sum(
                float(loss_weight(part["labels"], self.ignore_index, self._host_class_weights)) for part in parts
            )
        totals = accelerator.reduce(torch.tensor([weight, float(wish_to_stop)], device=device), "sum")
        loss = self._add_gradients(parts, divisor=totals[0].clamp(min=1))
        if config.max_grad_norm is not None:
            accelerator.clip_grad_norm_(self._prepared_model.parameters(), config.max_grad_norm)
        self._prepared_optimizer.step()
        self.schedule.step()
        self._prepared_optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        self.step += 1
        return Readout(torch.stack([accelerator.reduce(loss, "sum"), totals[1]]))

    def _add_gradients(self, parts: list[dict[str, Any]], divisor: torch.Tensor) -> torch.Tensor:
        """Add the gradients of a batch's parts, and give this process's share of the batch's loss."""
        accelerator, device = self.accelerator, self.accelerator.device
        memory_format = torch.channels_last if self.config.channels_last else torch.preserve_format
        loss = torch.zeros((), device=device)
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            with contextlib.nullcontext() if is_last else accelerator.no_sync(self._prepared_model):
                pixel_values = part["pixel_values"].to(device, non_blocking=True, memory_format=memory_format)
                labels = part["labels"].to(device, non_blocking=True).long()
                logits = self._prepared_model(pixel_values=pixel_values).logits
                part_loss = summed_loss(logits, labels, self.ignore_index, self._class_weights) / divisor
                # Processes average their gradients, but each part has been divided by the whole already.
                accelerator.backward(part_loss * accelerator.num_processes)
                loss += part_loss.detach()
        return loss

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

    def is_saved(self) -> bool:
        """Whether there is a checkpoint of this step, or no step yet."""
        return not self.step or checkpoints.checkpoint_path(self.checkpoint_folder, self.step).exists()

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
        """
        Take up where a checkpoint was written, before the accelerator prepares the model.

        Raises:
            ValueError: If the checkpoint is damaged; the message says what to do.
        """
        state = checkpoints.load_state(checkpoint)
        with checkpoints.explain_damage(checkpoint):
            # By transformers, which writes weights of some models under other names than they have in memory.
            saved = type(self.model).from_pretrained(checkpoint, dtype=torch.float32)
        self.step, self.best_mean_iou = state["step"], state["best_mean_iou"]
        self.evaluated_step = state["evaluated_step"]
        self.model.load_state_dict(saved.state_dict())
        if not self.has_finite_weights():
            raise ValueError(f"{checkpoint} holds weights that are not finite. {checkpoints.DAMAGE_REMEDY}")
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
            f"Step {self.step}: mean IoU {mean_iou:.2%} on {result.num_images} images"
            + (f" (best so far {best:.2%})" if best is not None else "")
        )
        self.train_mode()
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


class Readout:
    """
    Values that are copied to the host without holding up a GPU.

    Args:
        tensor (`torch.Tensor` of shape `(count,)`): The values, on any device.
    """

    def __init__(self, tensor: torch.Tensor):
        self._values = tensor.to("cpu", non_blocking=tensor.is_cuda)
        self._copied = None
        if tensor.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self) -> list[float]:
        """The values, as soon as the device has come that far."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._values.tolist()
