# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The Hugging Face Trainer with the model and the image processor, as users run it."""

from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset
from transformers import Trainer, TrainingArguments

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor

PHOTOS = Path(__file__).parents[1] / "fixtures" / "photos"


def train(model: CGRSegForSemanticSegmentation, folder: Path, batch_size: int, accumulation: int) -> Trainer:
    """One optimiser step over four photos with their label maps, in whatever portions."""
    processor = CGRSegImageProcessor(size={"height": 64, "width": 64}, num_labels=171)
    rows = load_dataset("imagefolder", data_dir=str(PHOTOS), split="train").select(range(4))
    examples = [
        {name: values[0] for name, values in processor(row["image"], row["annotation"], return_tensors="pt").items()}
        for row in rows
    ]
    for example in examples:
        example["labels"][:32] = 3  # no ignored pixels there: every portion weighs the same
        example["labels"][example["labels"] == 255] = 3
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            max_steps=1,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=2,
            gradient_accumulation_steps=accumulation,
            max_grad_norm=0.0,
            learning_rate=1.0,
            optim="sgd",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=examples,
        eval_dataset=examples,
        compute_metrics=lambda prediction: {"shape": np.asarray(prediction.predictions).shape},
    )
    trainer.train()
    return trainer


def test_accumulated_gradients_are_those_of_the_large_batch(tiny_config, tmp_path):
    config = tiny_config(num_labels=171)
    torch.manual_seed(0)
    whole = CGRSegForSemanticSegmentation(config)
    portions = CGRSegForSemanticSegmentation(config)
    portions.load_state_dict(whole.state_dict())
    for model in (whole, portions):  # the batch statistics of portions differ from those of the whole: leave them out
        model.eval()
        model.train = lambda mode=True, model=model: model
    train(whole, tmp_path, batch_size=4, accumulation=1)
    train(portions, tmp_path, batch_size=1, accumulation=4)
    for (name, one), other in zip(whole.named_parameters(), portions.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)


def test_evaluation_sees_the_logits_alone(tiny_config, tmp_path):
    trainer = train(CGRSegForSemanticSegmentation(tiny_config(num_labels=171)), tmp_path, batch_size=4, accumulation=1)
    assert trainer.label_names == ["labels"]
    metrics = trainer.evaluate()
    assert metrics["eval_shape"] == (4, 171, 8, 8)
    assert metrics["eval_loss"] > 0
