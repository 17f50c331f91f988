# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The state of a training run, and what is done with it: a step, a checkpoint, an evaluation."""

import contextlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging

from ..conversion.files import read_checkpoint
from ..data import SegmentationData
from ..evaluation import EvaluationResult, evaluate_model
from ..model.geometry_cgrseg import image_size_of_input
from ..model.modeling_cgrseg import loss_weight, semantic_segmentation_loss
from ..utils.processes import AUTOCAST_TYPES
from . import checkpoints
from .config import TrainingConfig
from .inputs import find_class_weights
from .models import make_image_processor, make_model
from .optimizer import average_weights, learning_rate_factor, make_optimizer
from .stopping import describe_divergence

_STATE_FILE = "training_state.pt"
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class TrainingRun:
    """
    Model, optimizer, schedule and progress of a run.

    Args:
        config ([`TrainingConfig`]): The run's configuration.
        accelerator (`Accelerator`): Knows the processes and their devices, and saves and loads the state.
        data ([`SegmentationData`]): What the model is trained on.

    Attributes:
        model (`PreTrainedModel`): What is trained.
        averaged (`AveragedModel`, *optional*): Moving average of its weights.
        step (`int`): Steps done.
        max_steps (`int`): Steps of the whole run.
        best_mean_iou (`float`, *optional*): The best of all evaluations.
        evaluated_step (`int`, *optional*): The step of the last evaluation.
        stop_requested (`bool`): Set by `read_losses` once any process was told to stop.
    """

    def __init__(self, config: TrainingConfig, accelerator: Accelerator, data: SegmentationData):
        self.config = config
        self.accelerator = accelerator
        self.output = Path(config.output)
        self.checkpoint_folder = self.output / "checkpoints"
        self.ignore_index = data.ignore_index
        model = make_model(config, data.id2label, data.ignore_index, accelerator.print)
        self.image_processor = make_image_processor(config, data)
        self.max_steps = config.max_steps
        if config.epochs is not None:
            self.max_steps = math.ceil(config.epochs * len(data) / config.batch_size)
        # Labels are weighed on the CPU, where they come from, and the loss is computed on the device.
        self._cpu_class_weights = find_class_weights(data, config.class_weight_power)
        self._class_weights = (
            None if self._cpu_class_weights is None else self._cpu_class_weights.to(accelerator.device)
        )
        model.to(accelerator.device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        self.averaged = average_weights(model, config.ema_decay) if config.ema_decay else None
        if config.sync_batch_norm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # its weights are saved under the same names
        self.model = model
        self._prepare()
        self.step = 0
        self.best_mean_iou: float | None = None
        self.evaluated_step: int | None = None
        self.stop_requested = False
        self._unread: list[_UnreadStep] = []
        self._image_names: list[str] = []  # of the last step

    def _prepare(self) -> None:
        """Make optimizer and schedule, and wrap all for the processes, the precision and checkpoints."""
        config, accelerator = self.config, self.accelerator
        optimizer = make_optimizer(
            self.model, config.learning_rate, config.head_learning_rate_factor, config.weight_decay, config.betas
        )
        warmup_steps = config.warmup_steps
        if warmup_steps > self.max_steps / 2:
            warmup_steps = self.max_steps // 10
            accelerator.print(
                f"The run has {self.max_steps} steps, too few for warmup_steps={config.warmup_steps}: the warm-up "
                f"takes {warmup_steps}."
            )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(
                step, self.max_steps, warmup_steps, config.warmup_factor, config.poly_power
            ),
        )
        self._prepared_model, self.optimizer, self.schedule = accelerator.prepare(self.model, optimizer, schedule)
        if config.compile:
            self._prepared_model = torch.compile(self._prepared_model)
        accelerator.register_save_state_pre_hook(self._save_with_state)
        accelerator.register_load_state_pre_hook(self._load_with_state)
        self._set_train_mode()

    def _set_train_mode(self) -> None:
        """Set the model to training, except for batch normalization that is frozen."""
        self.model.train()
        if self.config.freeze_batch_norm:
            for module in self.model.modules():
                if isinstance(module, _BATCH_NORMS):
                    module.eval()

    def take_step(self, parts: list[dict[str, Any]], wish_to_stop: bool) -> None:
        """
        Update the weights by a batch. What the step came to is read later, by `read_losses`.

        Args:
            parts (`list[dict]`): This process's share of the batch, as `read_batches` yields it.
            wish_to_stop (`bool`): If this process was told to stop.
        """
        accelerator, config = self.accelerator, self.config
        # The one exchange before a step: the weight of the whole batch, and if a process was told to stop.
        weight = sum(float(self._weigh(part["labels"])) for part in parts)
        totals = accelerator.reduce(torch.tensor([weight, float(wish_to_stop)], device=accelerator.device), "sum")
        loss = self._add_gradients(parts, divisor=totals[0].clamp(min=1))
        if config.max_grad_norm is not None:
            accelerator.clip_grad_norm_(self._prepared_model.parameters(), config.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        self.step += 1
        self._image_names = [name for part in parts for name in part["names"]]
        values = torch.stack([accelerator.reduce(loss, "sum"), totals[1]])
        self._unread.append(_UnreadStep.copy_from(values, self.step, self._image_names))

    def _weigh(self, labels: torch.Tensor) -> torch.Tensor | int:
        if self.config.loss_normalization == "all":
            return labels.numel()
        return loss_weight(labels, self.ignore_index, self._cpu_class_weights)

    def _add_gradients(self, parts: list[dict[str, Any]], divisor: torch.Tensor) -> torch.Tensor:
        """Add the gradients of a batch's parts, and return this process's share of the batch's loss."""
        accelerator, device = self.accelerator, self.accelerator.device
        memory_format = torch.channels_last if self.config.channels_last else torch.preserve_format
        loss = torch.zeros((), device=device)
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            with contextlib.nullcontext() if is_last else accelerator.no_sync(self._prepared_model):
                pixel_values = part["pixel_values"].to(device, non_blocking=True, memory_format=memory_format)
                labels = part["labels"].to(device, non_blocking=True)
                logits = self._prepared_model(pixel_values=pixel_values).logits
                image_size = image_size_of_input(logits, tuple(labels.shape[-2:]))
                part_loss = (
                    semantic_segmentation_loss(logits, labels, self.ignore_index, image_size, self._class_weights)
                    / divisor
                )
                # Processes average their gradients, but each part was divided by the whole batch's weight already.
                accelerator.backward(part_loss * accelerator.num_processes)
                loss += part_loss.detach()
        return loss

    def read_losses(self, leave: int = 0) -> list[float]:
        """
        Read the losses of all steps that were not read yet, except for the last few.

        Args:
            leave (`int`): How many steps to leave unread: a GPU need not wait for the CPU to read the last one.

        Raises:
            TrainingStoppedError: If a loss is not finite.
        """
        losses = []
        while len(self._unread) > leave:
            unread = self._unread.pop(0)
            loss, num_stop_requests = unread.read()
            self.stop_requested |= num_stop_requests > 0
            if not math.isfinite(loss):
                problem = f"The loss of step {unread.step} is {loss}"
                raise describe_divergence(problem, self.checkpoint_folder, unread.step - 1, unread.image_names)
            losses.append(loss)
        return losses

    def save_checkpoint(self) -> None:
        """
        Write a checkpoint to resume from, if there is none of this step. All processes call this.

        Raises:
            TrainingStoppedError: If a weight is not finite.
        """
        if not _is_finite(self.model):
            problem = f"The weights after step {self.step} are not finite"
            raise describe_divergence(problem, self.checkpoint_folder, self.step, self._image_names)
        if not checkpoints.checkpoint_path(self.checkpoint_folder, self.step).exists():
            checkpoints.save_checkpoint(
                self.checkpoint_folder, self.step, self.accelerator, self.config.keep_checkpoints
            )

    def _save_with_state(self, models: list[nn.Module], weights: list[dict[str, Any]], folder: Path) -> None:
        """Save what Accelerate does not: a model folder in place of its weights, the average, and the progress."""
        weights.clear()
        if self.accelerator.is_main_process:
            self._write_model(folder, self.model)
            state = {"step": self.step, "best_mean_iou": self.best_mean_iou, "evaluated_step": self.evaluated_step}
            state["averaged"] = None if self.averaged is None else self.averaged.state_dict()
            torch.save(state, folder / _STATE_FILE)

    def _load_with_state(self, models: list[nn.Module], folder: str) -> None:
        """Load what `_save_with_state` saved."""
        models.clear()
        # By transformers, which saves the weights of some models under other names than they have in memory.
        saved, report = type(self.model).from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        if report["missing_keys"]:
            raise ValueError(f"it lacks the weights {', '.join(sorted(report['missing_keys'])[:3])}")
        if not _is_finite(saved):
            raise ValueError("its weights are not finite")
        self.model.load_state_dict(saved.state_dict())
        state = read_checkpoint(Path(folder) / _STATE_FILE)
        self.step, self.best_mean_iou = state["step"], state["best_mean_iou"]
        self.evaluated_step = state["evaluated_step"]
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])

    def evaluate(self, data: SegmentationData) -> EvaluationResult:
        """Score the shipped model on a split, and keep it in `best` if no evaluation was better."""
        accelerator = self.accelerator
        if accelerator.num_processes > 1:  # without synchronized statistics, each process has its own
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
        self._set_train_mode()
        self.evaluated_step = self.step
        mean_iou, best = float(result.metrics["mean_iou"]), self.best_mean_iou
        so_far = "" if best is None else f" (best so far {best:.2%})"
        accelerator.print(f"Step {self.step}: mean IoU {mean_iou:.2%} on {result.num_images} images{so_far}")
        if not math.isnan(mean_iou) and (best is None or mean_iou > best):
            self.best_mean_iou = mean_iou
            self.write_shipped_model(self.output / "best")
        return result

    @property
    def shipped_model(self) -> PreTrainedModel:
        """The model that is evaluated and kept: the average of the weights if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def write_shipped_model(self, folder: Path) -> None:
        """Write the model that is kept as a folder for `from_pretrained`. All processes call this."""

        def write(unfinished: Path) -> None:
            if self.accelerator.is_main_process:
                self._write_model(unfinished, self.shipped_model)

        checkpoints.write_folder(folder, write, self.accelerator)

    def _write_model(self, folder: Path, model: PreTrainedModel) -> None:
        shows_bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # it would break up the training's own
        model.save_pretrained(folder)
        if shows_bars:
            logging.enable_progress_bar()
        self.image_processor.save_pretrained(folder)


class _UnreadStep(NamedTuple):
    """What a step came to, on its way to the CPU without holding up a GPU."""

    step: int
    image_names: list[str]
    values: torch.Tensor
    copied: "torch.cuda.Event | None"

    @classmethod
    def copy_from(cls, values: torch.Tensor, step: int, image_names: list[str]) -> "_UnreadStep":
        copied = torch.cuda.Event() if values.is_cuda else None
        on_cpu = values.to("cpu", non_blocking=values.is_cuda)
        if copied is not None:
            copied.record()
        return cls(step, image_names, on_cpu, copied)

    def read(self) -> list[float]:
        if self.copied is not None:
            self.copied.synchronize()
        return self.values.tolist()


def _is_finite(model: nn.Module) -> bool:
    """Check that no weight or statistic is infinite or NaN."""
    tensors = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]
    return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all())
