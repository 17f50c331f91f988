# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The training loop, on Accelerate.

    cgrseg train --recipe cgrseg-t-ade20k --data ADEChallengeData2016
    accelerate launch --num_processes 4 scripts/train.py --recipe cgrseg-t-ade20k --data ADEChallengeData2016

One step is one batch of `batch_size` images over all processes. Each process computes its share in
`gradient_accumulation_steps` parts, and every part divides its summed loss by what the whole batch weighs: the
gradient is that of the whole batch, however it was divided.
"""

import importlib.util
import json
import math
import signal
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, set_seed
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.image_processing_utils import BaseImageProcessor

from ..data import SegmentationData, SplitNotFoundError, check_first_masks, load_data, read_class_names
from ..data.batches import make_training_loader, read_batches
from ..data.transforms import training_transforms
from ..utils.processes import MIXED_PRECISIONS, make_accelerator
from . import checkpoints
from .config import TrainingConfig, load_recipe
from .faults import describe_divergence, describe_end
from .models import find_class_weights, make_image_processor, make_model, pixel_statistics
from .run import Readout, TrainingRun
from .run_log import RunLog, StopSignals


@dataclass(frozen=True)
class TrainingResult:
    """
    How a training ended.

    Args:
        output (`Path`): Folder of the run.
        model (`Path`, *optional*): Folder of the best model, or of the last one where nothing was evaluated.
        step (`int`): Steps done.
        best_mean_iou (`float`, *optional*): Of the best model on the validation split, 0 to 1.
        num_parameters (`int`): Of the model.
        stopped_by (`int`, *optional*): The signal that stopped the run after a checkpoint, before all steps were done.
    """

    output: Path
    model: Path | None
    step: int
    best_mean_iou: float | None
    num_parameters: int
    stopped_by: int | None = None

    @property
    def finished(self) -> bool:
        """Whether all steps were done."""
        return self.stopped_by is None


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
        TrainingStoppedError: If the run cannot go on: a file of a batch cannot be used, the loss is not finite, the
            disk is full, or a process that it needs is lost. The message names the cause, the step and the last
            checkpoint.
    """
    accelerator = make_accelerator(
        mixed_precision=MIXED_PRECISIONS[config.precision], log_with=_find_trackers(config), project_dir=config.output
    )
    checkpoint = _find_checkpoint(config, resume, accelerator)
    part_size = _divide_batch(config, accelerator.num_processes)

    # The data, the same model in every process, and what is to be done with them.
    set_seed(config.seed)
    train_data, validation_data = _load_splits(config, accelerator)
    model = make_model(config, train_data.id2label, train_data.ignore_index, accelerator.print)
    image_processor = make_image_processor(config, train_data)
    max_steps = config.max_steps
    if config.epochs is not None:
        max_steps = math.ceil(config.epochs * len(train_data) / config.batch_size)
    class_weights = find_class_weights(train_data, config.class_weight_power)
    warmup_steps = _fit_warmup(config.warmup_steps, max_steps, accelerator)
    run = TrainingRun(
        config, accelerator, model, image_processor, class_weights, train_data.ignore_index, max_steps, warmup_steps
    )
    if checkpoint is not None:
        run.restore(checkpoint)
        accelerator.print(f"Going on after step {run.step}, from {checkpoint}.")
    run.prepare()

    # What draws random numbers from here on: dropout, in every process its own.
    set_seed(config.seed + accelerator.process_index)
    if checkpoint is not None:
        checkpoints.restore_random_state(checkpoint, accelerator.process_index)
    batches = read_batches(_make_loader(config, accelerator, train_data, image_processor, part_size, run.step))
    if accelerator.is_main_process:
        checkpoints.recover_folder(run.output / "best")
        run.output.mkdir(parents=True, exist_ok=True)
        checkpoints.write_file(run.output / "training_config.json", json.dumps(config.to_dict(), indent=2) + "\n")
    _start_trackers(accelerator, config)
    log = RunLog(run.output / "log.jsonl", accelerator, run.step)
    stop_signals = StopSignals()
    progress = tqdm(
        total=max_steps,
        initial=run.step,
        unit="step",
        disable=not accelerator.is_local_main_process,
        dynamic_ncols=True,
    )
    evaluation_steps = config.evaluation_steps if validation_data is not None else max_steps

    def is_time(every: int) -> bool:
        return run.step % every == 0 or run.step == max_steps

    def evaluate_if_due() -> None:
        """Once the checkpoint is written: an evaluation that is cut short is made up for after resuming."""
        if validation_data is None or run.evaluated_step == run.step or not run.step or not is_time(evaluation_steps):
            return
        result = run.evaluate(validation_data)
        log.write(run.step, {name: float(result.metrics[name]) for name in ("mean_iou", "overall_accuracy")})

    unread: list[tuple[int, Readout, list[str]]] = []  # of steps that were not looked at yet, with their images
    losses: list[float] = []
    images: list[str] = []  # of the last step
    stop = False

    def look_at_steps(leave: int) -> None:
        """Read what all steps but the last few came to, and refuse to go on with a loss that is not finite."""
        nonlocal stop
        while len(unread) > leave:
            step, readout, its_images = unread.pop(0)
            loss, wish_to_stop = readout.read()
            losses.append(loss)
            stop |= wish_to_stop > 0
            if not math.isfinite(loss):
                raise describe_divergence(f"The loss of step {step} is {loss}", run, step - 1, its_images)

    def save_checkpoint() -> None:
        """Once all steps were looked at: weights that training cannot go on from are refused."""
        if not run.has_finite_weights():
            raise describe_divergence(f"The weights after step {run.step} are not finite", run, run.step, images)
        run.save_checkpoint()

    try:
        evaluate_if_due()
        while run.step < max_steps:
            try:
                parts = [next(batches) for _ in range(config.gradient_accumulation_steps)]
            except (ValueError, OSError):
                # No step is lost by it, but of several processes the others do not know and cannot be asked.
                if accelerator.num_processes == 1 and not run.is_saved():
                    look_at_steps(leave=0)
                    save_checkpoint()
                raise
            images = [name for part in parts for name in part["names"]]
            learning_rate = run.schedule.get_last_lr()[0]
            unread.append((run.step + 1, run.take_step(parts, stop_signals.caught is not None), images))

            # What a step came to is read while the next one is computed, and at once only if something is to be kept.
            save = is_time(config.save_steps) or is_time(evaluation_steps) or stop
            look_at_steps(leave=0 if save or is_time(config.logging_steps) else 1)

            progress.update()
            if is_time(config.logging_steps):
                mean_loss = sum(losses) / len(losses)
                losses.clear()
                progress.set_postfix_str(f"loss {mean_loss:.4f}")
                log.write(run.step, {"loss": mean_loss, "learning_rate": learning_rate})
            if save:
                save_checkpoint()
            if stop and save and run.step < max_steps:
                accelerator.print(f"Told to stop after step {run.step}: a checkpoint is written, --resume goes on.")
                # Another process may have been told.
                return _describe_result(run, None, stopped_by=stop_signals.caught or signal.SIGTERM)
            evaluate_if_due()
        run.write_shipped_model(run.output / "last")
    except Exception as error:
        if (stopped := describe_end(error, run)) is None:
            raise
        raise stopped from error
    finally:
        progress.close()
        stop_signals.restore()
        log.close()

    return _describe_result(run, run.output / ("last" if validation_data is None else "best"))


def _find_trackers(config: TrainingConfig) -> list[str] | None:
    names = [name.strip() for name in config.trackers.split(",") if name.strip() not in ("", "none")]
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing == ["tensorboard"] == names:
        return None  # the default, where it is not installed; log.jsonl has the same
    if missing:
        raise ValueError(f"The tracker {missing[0]} is not installed: pip install {missing[0]}, or --trackers none.")
    return names or None


def _start_trackers(accelerator: Accelerator, config: TrainingConfig) -> None:
    if accelerator.log_with:
        values = {name: value for name, value in config.to_dict().items() if isinstance(value, int | float | str)}
        accelerator.init_trackers("cgrseg", config=values)


def _find_checkpoint(config: TrainingConfig, resume: bool, accelerator: Accelerator) -> Path | None:
    """The checkpoint to go on from, the same in all processes. Another run's is not overwritten, nor gone on with."""
    output = Path(config.output)
    found = checkpoints.list_checkpoints(output / "checkpoints")
    if not found:
        if resume:
            accelerator.print(f"{config.output} holds no checkpoint to go on from: training starts anew.")
        if accelerator.num_processes == 1:
            return None
    if found and not resume:
        raise ValueError(
            f"{config.output} holds a run already, whose newest checkpoint is {found[-1].name}: go on with it "
            "(--resume), or choose another folder (--output)."
        )
    chosen = [found[-1] if found else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(chosen)
        if chosen[0] is None:
            return None
        if chosen[0] not in found:
            raise ValueError(
                f"This process does not see {chosen[0]}: {config.output} must be on a disk that all share."
            )
    before = load_recipe(output / "training_config.json")
    if differences := before.differences(config):
        raise ValueError(
            f"The run in {config.output} was started with other values: {', '.join(differences)}. Go on with those, or "
            "start a new run in another folder (--output)."
        )
    return chosen[0]


def _divide_batch(config: TrainingConfig, num_processes: int) -> int:
    """Images in one part of one process."""
    num_parts = num_processes * config.gradient_accumulation_steps
    if config.batch_size % num_parts:
        raise ValueError(
            f"batch_size={config.batch_size} cannot be divided among {num_processes} processes with "
            f"{config.gradient_accumulation_steps} parts each: make it a multiple of {num_parts}."
        )
    return config.batch_size // num_parts


def _fit_warmup(warmup_steps: int, max_steps: int, accelerator: Accelerator) -> int:
    """The warm-up, or a tenth of the run where it would take more than half of it."""
    if warmup_steps <= max_steps / 2:
        return warmup_steps
    shortened = max_steps // 10
    accelerator.print(
        f"The run has {max_steps} steps, too few for warmup_steps={warmup_steps}: the warm-up takes {shortened}."
    )
    return shortened


def _load_splits(config: TrainingConfig, accelerator: Accelerator) -> tuple[SegmentationData, SegmentationData | None]:
    """The data to train and to evaluate on, after a look at the first label maps."""
    names = None if config.class_names is None else read_class_names(config.class_names)

    def load(split: str) -> SegmentationData:
        data = load_data(
            config.data,
            split,
            config.dataset,
            image_column=config.image_column,
            annotation_column=config.annotation_column,
            streaming=config.streaming,
            label_ids=config.label_ids,
            reduce_labels=config.reduce_labels,
            id2label=names,
            ignore_index=config.ignore_index,
        )
        accelerator.print(f"{split}: {data.description}")
        if accelerator.is_main_process:
            for warning in check_first_masks(data):
                accelerator.print(f"  Warning: {warning}")
        return data

    train_data = load(config.train_split)
    accelerator.print(f"Raw ids → train ids: {train_data.label_mapping.describe()}")
    if config.validation_split is None:
        return train_data, None
    try:
        validation_data = load(config.validation_split)
    except SplitNotFoundError as error:
        raise ValueError(f"{error} To train without evaluating: --validation-split none.") from error
    if validation_data.split is None:
        accelerator.print("  Warning: the source has no splits, so the model is evaluated on what it is trained on.")
    return train_data, validation_data


def _make_loader(
    config: TrainingConfig,
    accelerator: Accelerator,
    data: SegmentationData,
    image_processor: BaseImageProcessor,
    part_size: int,
    step: int,
) -> DataLoader:
    """Endless augmented batches of `part_size` images for this process, from a step of the run on."""
    if config.streaming and step:
        accelerator.print(f"Reading over {step * config.batch_size} images of the stream that were used already.")
    image_mean, image_std = pixel_statistics(image_processor)
    transform = training_transforms(
        crop_size=config.crop_size,
        resize_to=config.resize_to,
        scale_range=config.scale_range,
        max_class_share=config.max_class_share,
        flip_probability=config.flip_probability,
        photometric_distortion=config.photometric_distortion,
        ignore_index=data.ignore_index,
        image_mean=image_mean,
        image_std=image_std,
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


def _describe_result(run: TrainingRun, model: Path | None, stopped_by: int | None = None) -> TrainingResult:
    return TrainingResult(run.output, model, run.step, run.best_mean_iou, run.model.num_parameters(), stopped_by)
