# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The training loop, on Accelerate.

    cgrseg train --recipe cgrseg-t-ade20k --data ADEChallengeData2016
    accelerate launch --num_processes 4 scripts/train.py --recipe cgrseg-t-ade20k --data ADEChallengeData2016

One step is one batch of `batch_size` images over all processes. Each process computes its share in
`gradient_accumulation_steps` parts, and every part divides its summed loss by what the whole batch weighs: the
gradient is that of the whole batch, however it was divided.
"""

import contextlib
import importlib.util
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.image_processing_utils import BaseImageProcessor

from ..data import SegmentationData, check_first_masks, load_data
from ..data.batches import make_training_loader
from ..data.transforms import training_transforms
from ..processes import make_accelerator
from . import checkpoints
from .config import TrainingConfig
from .loss import loss_weight, summed_loss
from .models import find_class_weights, make_image_processor, make_model
from .run import TrainingRun
from .run_log import RunLog, StopSignals


@dataclass(frozen=True)
class TrainingResult:
    """
    How a training ended.

    Args:
        output (`Path`): Folder of the run.
        model (`Path`, *optional*): Folder of the best model, or of the last one where nothing was evaluated.
        step (`int`): Steps done.
        finished (`bool`): Whether all steps were done; if not, a signal stopped the run after a checkpoint.
        best_mean_iou (`float`, *optional*): Of the best model on the validation split, 0 to 1.
        num_parameters (`int`): Of the model.
    """

    output: Path
    model: Path | None
    step: int
    finished: bool
    best_mean_iou: float | None
    num_parameters: int


class TrainingStoppedError(ValueError):
    """Training cannot go on; the message says why, and where the last checkpoint is."""


def train(config: TrainingConfig, resume: bool = False) -> TrainingResult:
    """
    Train a model.

    Args:
        config ([`TrainingConfig`]):
            What to train, on what, and how.
        resume (`bool`, *optional*, defaults to `False`):
            Go on from the newest checkpoint in the run's folder. Without one, training starts anew.

    Returns:
        [`TrainingResult`].

    Raises:
        ValueError: If the configuration, the data or the model do not fit together, or the run's folder holds another
            run.
        TrainingStoppedError: If the loss is not finite.
    """
    accelerator = _prepare_processes(config)
    device = accelerator.device
    checkpoint = _find_checkpoint(config, resume)
    part_size = _divide_batch(config, accelerator.num_processes)

    # The data, the same model in every process, and what is to be done with them.
    set_seed(config.seed)
    train_data, validation_data = _load_splits(config, accelerator)
    ignore_index = train_data.ignore_index
    model = make_model(config, train_data.id2label, ignore_index, accelerator.print)
    if config.channels_last:
        model.to(memory_format=torch.channels_last)
    max_steps = config.max_steps
    if config.epochs is not None:
        max_steps = math.ceil(config.epochs * len(train_data) / config.batch_size)
    class_weights = find_class_weights(train_data, config.class_weight_power)
    class_weights = None if class_weights is None else class_weights.to(device)
    image_processor = make_image_processor(config, train_data)
    run = TrainingRun(config, accelerator, model.to(device), image_processor, max_steps)
    if checkpoint is not None:
        run.restore(checkpoint)
        accelerator.print(f"Going on after step {run.step}, from {checkpoint}.")
    prepared_model, optimizer = accelerator.prepare(run.model, run.optimizer)
    if config.compile:
        prepared_model = torch.compile(prepared_model)

    # What draws random numbers from here on: dropout, in every process its own.
    set_seed(config.seed + accelerator.process_index)
    if checkpoint is not None:
        checkpoints.restore_random_state(checkpoint, accelerator.process_index)
    batches = iter(_make_loader(config, accelerator, train_data, image_processor, part_size, run.step))
    if accelerator.is_main_process:
        checkpoints.recover_folder(run.output / "best")
        run.output.mkdir(parents=True, exist_ok=True)
        (run.output / "training_config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    log = RunLog(run.output / "log.jsonl", accelerator, run.step)
    stop_signals = StopSignals()
    progress = tqdm(
        total=max_steps,
        initial=run.step,
        unit="step",
        disable=not accelerator.is_local_main_process,
        dynamic_ncols=True,
    )
    unread: list[tuple[_Readout, list[str]]] = []  # of steps whose loss was not looked at yet, with their images
    stop = False
    losses: list[torch.Tensor] = []
    run.train_mode()
    try:
        while run.step < max_steps:
            parts = [next(batches) for _ in range(config.gradient_accumulation_steps)]

            # The one exchange before a step: what the whole batch weighs, and whether a process was told to stop.
            weight = sum(loss_weight(part["labels"].long(), ignore_index, class_weights) for part in parts)
            totals = torch.stack([torch.as_tensor(weight), torch.tensor(stop_signals.caught, dtype=torch.float64)])
            totals = accelerator.reduce(totals.float().to(device), "sum")
            if config.loss_normalization == "all":
                divisor = config.batch_size * math.prod(parts[0]["labels"].shape[-2:])
            else:
                divisor = totals[0].clamp(min=1)

            loss = _add_gradients(
                prepared_model, parts, divisor, ignore_index, class_weights, config.channels_last, accelerator
            )
            if config.max_grad_norm is not None:
                accelerator.clip_grad_norm_(prepared_model.parameters(), config.max_grad_norm)
            learning_rate = run.schedule.get_last_lr()[0]
            optimizer.step()
            run.schedule.step()
            optimizer.zero_grad()
            if run.averaged is not None:
                run.averaged.update_parameters(run.model)
            run.step += 1

            # What a step came to is read while the next one is computed, and at once only if something is to be kept.
            loss = accelerator.reduce(loss, "sum")
            losses.append(loss)
            names = [name for part in parts for name in part["names"]]
            unread.append((_Readout(torch.stack([loss, totals[1]])), names))
            is_last = run.step == max_steps
            evaluate = validation_data is not None and (run.step % config.evaluation_steps == 0 or is_last)
            save = run.step % config.save_steps == 0 or is_last or stop
            while len(unread) > (0 if evaluate or save else 1):
                readout, names = unread.pop(0)
                value, wish_to_stop = readout.read()
                stop |= wish_to_stop > 0
                if not math.isfinite(value):
                    raise _stopped(f"The loss is {value}", names, run)
            if (evaluate or save) and not run.has_finite_weights():
                raise _stopped("The weights are not finite, though the loss is", names, run)

            progress.update()
            if run.step % config.logging_steps == 0 or is_last:
                mean_loss = float(torch.stack(losses).mean())
                losses = []
                progress.set_postfix_str(f"loss {mean_loss:.4f}")
                log.write(run.step, {"loss": mean_loss, "learning_rate": learning_rate})
            if evaluate:
                result = run.evaluate(validation_data)
                log.write(run.step, {name: float(result.metrics[name]) for name in ("mean_iou", "overall_accuracy")})
                run.train_mode()
            if save:
                run.save_checkpoint()
            if stop and save and not is_last:
                accelerator.print(f"Told to stop after step {run.step}: a checkpoint is written, --resume goes on.")
                return _describe_result(run, None, finished=False)
    finally:
        progress.close()
        stop_signals.restore()
        log.close()

    run.write_shipped_model(run.output / "last")
    return _describe_result(run, run.output / ("last" if validation_data is None else "best"), finished=True)


class _Readout:
    """A tensor's values, copied to the host without holding up the device."""

    def __init__(self, tensor: torch.Tensor):
        self._values = tensor.to("cpu", non_blocking=True)
        self._copied = None
        if tensor.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def read(self) -> list[float]:
        """The values, as soon as the device has come that far."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._values.tolist()


def _prepare_processes(config: TrainingConfig) -> Accelerator:
    trackers = None if config.trackers in ("none", "") else config.trackers.split(",")
    if trackers == ["tensorboard"] and importlib.util.find_spec("tensorboard") is None:
        trackers = None  # the default, where it is not installed; log.jsonl has the same
    accelerator = make_accelerator(mixed_precision=config.precision, log_with=trackers, project_dir=config.output)
    if trackers:
        accelerator.init_trackers("log")
    return accelerator


def _find_checkpoint(config: TrainingConfig, resume: bool) -> Path | None:
    """The checkpoint to go on from; another run's is not overwritten."""
    found = checkpoints.list_checkpoints(Path(config.output) / "checkpoints")
    if found and not resume:
        raise ValueError(
            f"{config.output} holds a run already, whose newest checkpoint is {found[-1].name}: go on with it "
            "(--resume), or choose another folder (--output)."
        )
    return found[-1] if found else None


def _divide_batch(config: TrainingConfig, num_processes: int) -> int:
    """Images in one part of one process."""
    num_parts = num_processes * config.gradient_accumulation_steps
    if config.batch_size % num_parts:
        raise ValueError(
            f"batch_size={config.batch_size} cannot be divided among {num_processes} processes with "
            f"{config.gradient_accumulation_steps} parts each: make it a multiple of {num_parts}."
        )
    return config.batch_size // num_parts


def _load_splits(config: TrainingConfig, accelerator: Accelerator) -> tuple[SegmentationData, SegmentationData | None]:
    """The data to train and to evaluate on, after a look at the first label maps."""
    if config.data is None:
        raise ValueError("No data to train on: name a folder or a Hub id with --data.")
    splits = []
    for split in (config.train_split, config.validation_split):
        if split is None:
            splits.append(None)
            continue
        data = load_data(
            config.data,
            split,
            config.dataset,
            image_column=config.image_column,
            annotation_column=config.annotation_column,
            streaming=config.streaming,
            label_ids=config.label_ids,
            reduce_labels=config.reduce_labels,
        )
        accelerator.print(f"{split}: {data.description}")
        if accelerator.is_main_process:
            for warning in check_first_masks(data):
                accelerator.print(f"  Warning: {warning}")
        if data.split is None and splits:
            accelerator.print(
                "  Warning: the source has no splits, so the model is evaluated on what it is trained on."
            )
        splits.append(data)
    accelerator.print(f"Raw ids → train ids: {splits[0].label_mapping.describe()}")
    return splits[0], splits[1]


def _make_loader(
    config: TrainingConfig,
    accelerator: Accelerator,
    data: SegmentationData,
    image_processor: BaseImageProcessor,
    part_size: int,
    step: int,
) -> DataLoader:
    """Endless augmented batches of `part_size` images for this process, from a step of the run on."""
    transform = training_transforms(
        crop_size=config.crop_size,
        resize_to=config.resize_to,
        scale_range=config.scale_range,
        max_class_share=config.max_class_share,
        flip_probability=config.flip_probability,
        photometric_distortion=config.photometric_distortion,
        ignore_index=data.ignore_index,
        image_mean=image_processor.image_mean,
        image_std=image_processor.image_std,
    )
    return make_training_loader(
        data,
        transform,
        part_size,
        seed=config.seed,
        num_workers=config.num_workers,
        process_index=accelerator.process_index,
        num_processes=accelerator.num_processes,
        first_batch=step * config.gradient_accumulation_steps,
        shuffle_buffer=config.shuffle_buffer,
        pin_memory=accelerator.device.type == "cuda",
    )


def _add_gradients(
    model: nn.Module,
    parts: list[dict[str, Any]],
    divisor: float | torch.Tensor,
    ignore_index: int,
    class_weights: torch.Tensor | None,
    channels_last: bool,
    accelerator: Accelerator,
) -> torch.Tensor:
    """Add the gradients of a batch's parts, and give this process's share of the batch's loss."""
    device = accelerator.device
    memory_format = torch.channels_last if channels_last else torch.preserve_format
    loss = torch.zeros((), device=device)
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        with contextlib.nullcontext() if is_last else accelerator.no_sync(model):
            pixel_values = part["pixel_values"].to(device, non_blocking=True, memory_format=memory_format)
            labels = part["labels"].to(device, non_blocking=True).long()
            logits = model(pixel_values=pixel_values).logits
            part_loss = summed_loss(logits, labels, ignore_index, class_weights) / divisor
            # Processes average their gradients, but each part has been divided by the whole already.
            accelerator.backward(part_loss * accelerator.num_processes)
            loss += part_loss.detach()
    return loss


def _stopped(problem: str, names: list[str], run: TrainingRun) -> TrainingStoppedError:
    found = checkpoints.list_checkpoints(run.checkpoint_folder)
    return TrainingStoppedError(
        f"{problem}, at step {run.step} or just before. The images of this process were {', '.join(names)}. "
        + (f"The last good checkpoint is {found[-1]}." if found else "There is no checkpoint yet.")
        + " If the images are sound, lower learning_rate, set max_grad_norm, or use precision no or bf16."
    )


def _describe_result(run: TrainingRun, model: Path | None, finished: bool) -> TrainingResult:
    return TrainingResult(run.output, model, run.step, finished, run.best_mean_iou, run.model.num_parameters())
