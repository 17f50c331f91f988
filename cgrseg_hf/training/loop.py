# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The training loop, on Accelerate.

    cgrseg train --recipe cgrseg-t-ade20k --data ADEChallengeData2016
    accelerate launch --num_processes 4 scripts/train.py --recipe cgrseg-t-ade20k --data ADEChallengeData2016

One step is one batch of `batch_size` images over all processes. Each process computes its share in
`gradient_accumulation_steps` parts, and the summed loss of every part is divided by the weight of the whole batch. So
the gradient is that of the whole batch, however it was divided.
"""

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from tqdm import tqdm

from ..data import SegmentationData
from ..data.batches import read_batches
from ..utils.processes import MIXED_PRECISIONS, make_accelerator
from .checkpoints import CONFIG_FILE, find_checkpoint, load_checkpoint, recover_folder, write_file
from .config import TrainingConfig
from .inputs import divide_batch, load_splits, make_loader
from .run import TrainingRun
from .run_log import RunLog, find_trackers
from .stopping import StopSignals, describe_end


@dataclass(frozen=True)
class TrainingResult:
    """
    How a training ended.

    Args:
        output (`Path`): Folder of the run.
        model (`Path`, *optional*): Folder of the best model, or of the last one if nothing was evaluated.
        step (`int`): Steps done.
        best_mean_iou (`float`, *optional*): Score of the best model on the validation split, 0 to 1.
        num_parameters (`int`): Number of the model's parameters.
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
        """True if all steps were done."""
        return self.stopped_by is None


def train(config: TrainingConfig, resume: bool = False) -> TrainingResult:
    """
    Train a model.

    Args:
        config ([`TrainingConfig`]):
            What to train, on what, and how.
        resume (`bool`, *optional*, defaults to `False`):
            Continue from the newest checkpoint in the run's folder. Without one, training starts anew.

    Returns:
        [`TrainingResult`].

    Raises:
        ValueError: If the configuration, the data or the model do not fit together, or the run's folder holds another
            run.
        TrainingStoppedError: If the run cannot continue: a file of a batch cannot be used, the loss is not finite, the
            disk is full, or a process that it needs is lost. The message names the cause, the step and the last
            checkpoint.
    """
    accelerator = make_accelerator(
        mixed_precision=MIXED_PRECISIONS[config.precision],
        log_with=find_trackers(config.trackers),
        project_dir=config.output,
        step_scheduler_with_optimizer=False,  # the schedule counts the run's steps, not the processes'
    )
    checkpoint = find_checkpoint(config, resume, accelerator)
    divide_batch(config, accelerator.num_processes)  # fails before anything is loaded

    # Data and model
    set_seed(config.seed)  # the same initial weights in every process
    train_data, validation_data = load_splits(config, accelerator)
    run = TrainingRun(config, accelerator, train_data)

    # State
    set_seed(config.seed + accelerator.process_index)  # dropout of its own in every process
    if checkpoint is not None:
        load_checkpoint(checkpoint, accelerator)
        accelerator.print(f"Continuing after step {run.step}, from {checkpoint}.")

    # Steps
    loader = make_loader(config, accelerator, train_data, run.image_processor, run.step)
    if accelerator.is_main_process:
        recover_folder(run.output / "best")
        write_file(run.output / CONFIG_FILE, json.dumps(config.to_dict(), indent=2) + "\n")
    with (
        contextlib.closing(read_batches(loader)) as batches,
        RunLog(config, accelerator, run.step) as log,
        StopSignals() as stop_signals,
    ):
        try:
            stopped_by = _take_steps(run, batches, validation_data, log, stop_signals)
        except Exception as error:
            stopped = describe_end(error, run.checkpoint_folder, run.step, accelerator.num_processes)
            if stopped is None:
                raise
            raise stopped from error

    model = run.output / ("last" if validation_data is None else "best") if stopped_by is None else None
    return TrainingResult(run.output, model, run.step, run.best_mean_iou, run.model.num_parameters(), stopped_by)


def _take_steps(
    run: TrainingRun,
    batches: Iterator[dict[str, Any]],
    validation_data: SegmentationData | None,
    log: RunLog,
    stop_signals: StopSignals,
) -> int | None:
    """Train to the last step and write the model, or to a signal to stop, whose number is returned."""
    config, accelerator = run.config, run.accelerator
    evaluation_steps = config.evaluation_steps if validation_data is not None else run.max_steps
    losses: list[float] = []  # since the last entry of the log

    def is_time(every: int) -> bool:
        return run.step % every == 0 or run.step == run.max_steps

    if run.step and is_time(evaluation_steps):
        _evaluate(run, validation_data, log)  # an evaluation that was cut short before the run was resumed
    with tqdm(
        total=run.max_steps,
        initial=run.step,
        unit="step",
        disable=not accelerator.is_local_main_process,
        dynamic_ncols=True,
    ) as progress:
        while run.step < run.max_steps:
            # Batch
            try:
                parts = [next(batches) for _ in range(config.gradient_accumulation_steps)]
            except (ValueError, OSError):
                # Lose no step to a bad file. Of several processes, the others do not know of it and cannot be asked.
                if run.step and accelerator.num_processes == 1:
                    run.read_losses()
                    run.save_checkpoint()
                raise

            # Step
            learning_rate = run.schedule.get_last_lr()[0]
            run.take_step(parts, wish_to_stop=stop_signals.caught is not None)
            progress.update()
            log_now = is_time(config.logging_steps)
            save_now = is_time(config.save_steps) or is_time(evaluation_steps) or run.stop_requested
            losses += run.read_losses(leave=0 if log_now or save_now else 1)

            # Log
            if log_now:
                mean_loss = sum(losses) / len(losses)
                losses.clear()
                progress.set_postfix_str(f"loss {mean_loss:.4f}")
                log.write(run.step, {"loss": mean_loss, "learning_rate": learning_rate})

            # Save
            if save_now:
                run.save_checkpoint()
                if run.stop_requested and run.step < run.max_steps:
                    accelerator.print(
                        f"Told to stop after step {run.step}: a checkpoint is written, --resume continues from it."
                    )
                    return stop_signals.caught or signal.SIGTERM  # another process may have been told

            # Evaluate
            if is_time(evaluation_steps):
                _evaluate(run, validation_data, log)
    run.write_shipped_model(run.output / "last")
    return None


def _evaluate(run: TrainingRun, data: SegmentationData | None, log: RunLog) -> None:
    if data is not None and run.evaluated_step != run.step:
        result = run.evaluate(data)
        log.write(run.step, {name: float(result.metrics[name]) for name in ("mean_iou", "overall_accuracy")})
