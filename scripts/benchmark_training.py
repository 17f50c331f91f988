# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""How fast training is: the loop beside a bare PyTorch loop, and images a worker makes ready in a second.

    python scripts/benchmark_training.py --data DIR --dataset camvid --label-ids void-first

The two loops take the same steps on the same tensors in one process, in turns of a few steps, so that whatever else
the machine does meets both. What is compared is the median time of a step.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
import unittest.mock
from collections.abc import Iterator

import torch
from torch import nn

from cgrseg_hf.data import load_data
from cgrseg_hf.data.batches import make_training_loader
from cgrseg_hf.data.transforms import training_transforms
from cgrseg_hf.training import TrainingConfig, loop
from cgrseg_hf.training.models import make_model
from cgrseg_hf.training.optimizer import make_optimizer


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of images with label maps")
    parser.add_argument("--dataset", help="whose classes these are")
    parser.add_argument("--label-ids", default="auto", help="convention of the ids")
    parser.add_argument("--model", default="t", help="preset (default: t)")
    parser.add_argument("--crop-size", type=int, default=384, help="side of the crops in pixels (default: 384)")
    parser.add_argument("--batch-size", type=int, default=4, help="images a step (default: 4)")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each loop (default: 6)")
    parser.add_argument("--steps", type=int, default=5, help="steps a turn (default: 5)")
    arguments = parser.parse_args()
    print(json.dumps({**measure_loading(arguments), **compare_loops(arguments)}, indent=2))


def measure_loading(arguments: argparse.Namespace, images: int = 200) -> dict[str, float]:
    """Images that one worker decodes, augments and collates in a second."""
    data = load_data(arguments.data, "train", arguments.dataset, label_ids=arguments.label_ids)
    transform = training_transforms(crop_size=(arguments.crop_size, arguments.crop_size))
    loader = make_training_loader(data, transform, arguments.batch_size, num_workers=1)
    batches = iter(loader)
    for _ in range(8):  # the worker starts, and fills what it reads ahead
        next(batches)
    count = images // arguments.batch_size
    start = now()
    for _ in range(count):
        next(batches)
    return {"images_per_second_and_worker": count * arguments.batch_size / (now() - start)}


def compare_loops(arguments: argparse.Namespace) -> dict[str, float]:
    """Steps a second of the package's loop and of a bare one, on the same preloaded tensors."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(
            model=arguments.model,
            data=arguments.data,
            dataset=arguments.dataset,
            label_ids=arguments.label_ids,
            crop_size=arguments.crop_size,
            batch_size=arguments.batch_size,
            max_steps=1 + arguments.rounds * arguments.steps,
            validation_split=None,
            save_steps=10**9,
            num_workers=0,
            trackers="none",
            output=folder,
        )
        data = load_data(config.data, "train", config.dataset, label_ids=config.label_ids)
        loader = make_training_loader(data, training_transforms(config.crop_size), config.batch_size)
        batches = list(itertools.islice(loader, arguments.steps))
        bare_step = make_bare_step(config, data.id2label)
        times: dict[str, list[float]] = {"loop": [], "bare": []}

        def give_batches() -> Iterator[dict]:
            """Time is the loop's between two calls of this generator, and the bare loop's between the turns."""
            bare_step(batches[0])
            yield batches[0]
            for _ in range(arguments.rounds):
                for batch in batches:
                    start = now()
                    bare_step(batch)
                    times["bare"].append(now() - start)
                for batch in batches:
                    start = now()
                    yield batch
                    times["loop"].append(now() - start)

        # The loop makes its loader here; in its place it gets the tensors that are there already.
        with unittest.mock.patch.object(loop, "make_loader", lambda *_: give_batches()):
            loop.train(config)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "loop_steps_per_second": 1 / medians["loop"],
        "bare_steps_per_second": 1 / medians["bare"],
        "ratio": medians["bare"] / medians["loop"],
    }


def now() -> float:
    """Seconds, when the device has done what it was given."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


def make_bare_step(config: TrainingConfig, id2label: dict[int, str]):
    """The least that trains the same model: forward, loss, backward, optimiser step."""
    model = make_model(config, id2label, 255, say=lambda _: None).train()
    optimizer = make_optimizer(model, 1e-5, 10.0, 0.01, (0.9, 0.999))
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
    model.to(device)

    def step(batch: dict) -> float:
        pixel_values, labels = batch["pixel_values"].to(device), batch["labels"].to(device).long()
        logits = model(pixel_values=pixel_values).logits
        logits = nn.functional.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
        loss = nn.functional.cross_entropy(logits, labels, ignore_index=255)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


if __name__ == "__main__":
    main()
