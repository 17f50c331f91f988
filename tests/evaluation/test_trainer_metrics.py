# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Mean IoU in transformers' Trainer."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction, SegformerConfig, SegformerForSemanticSegmentation, Trainer, TrainingArguments

from cgrseg_hf.evaluation import MeanIoU, make_compute_metrics, preprocess_logits_for_metrics
from cgrseg_hf.model.post_processing_cgrseg import resize_logits


def make_examples(sizes: list[tuple[int, int]]) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    examples = []
    for height, width in sizes:
        labels = torch.randint(0, 4, (height, width), generator=generator)
        labels[torch.rand(height, width, generator=generator) < 0.1] = 255
        examples.append({"pixel_values": torch.randn(3, height, width, generator=generator), "labels": labels})
    return examples


def evaluate_with_trainer(model, examples: list, folder, batch_eval_metrics: bool) -> dict[str, float]:
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_eval_batch_size=2,
        batch_eval_metrics=batch_eval_metrics,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        eval_dataset=examples,
        compute_metrics=make_compute_metrics(5, id2label=model.config.id2label),
        preprocess_logits_for_metrics=preprocess_logits_for_metrics,
    )
    first, second = trainer.evaluate(), trainer.evaluate()
    timings = {name for name in first if name.endswith(("runtime", "per_second", "time"))}
    assert str({name: first[name] for name in first.keys() - timings}) == str(
        {name: second[name] for name in first.keys() - timings}
    )
    return first


@pytest.mark.parametrize("batch_eval_metrics", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        [(64, 64)] * 5,
        [(60, 52)] * 5,  # the model also returns image_sizes
        [(64, 64), (64, 64), (40, 64), (40, 64), (51, 64)],  # Trainer pads what it stores
    ],
)
def test_same_as_counting_by_hand(sizes: list, batch_eval_metrics: bool, model, tmp_path):
    examples, metric = make_examples(sizes), MeanIoU(5)
    for example in examples:
        size = tuple(example["labels"].shape)
        with torch.no_grad():
            logits = model(example["pixel_values"][None]).logits
        metric.add(prediction=resize_logits(logits, size, size).argmax(1)[0], reference=example["labels"])
    expected = metric.compute()
    metrics = evaluate_with_trainer(model, examples, tmp_path, batch_eval_metrics)
    for name in ("mean_iou", "mean_accuracy", "overall_accuracy"):
        assert metrics[f"eval_{name}"] == pytest.approx(expected[name], abs=2e-3)
    ours = [metrics[f"eval_iou_{name}"] for name in model.config.id2label.values()]
    np.testing.assert_allclose(ours, expected["per_category_iou"], atol=2e-3)


def test_segformer_too(tmp_path):
    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=5, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1]
    )
    model, examples, metric = SegformerForSemanticSegmentation(config).eval(), make_examples([(64, 64)] * 3), MeanIoU(5)
    for example in examples:
        with torch.no_grad():
            logits = model(example["pixel_values"][None]).logits
        upsampled = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear")
        metric.add(prediction=upsampled.argmax(1)[0], reference=example["labels"])
    alone, among_others = (
        preprocess_logits_for_metrics(output, example["labels"][None]) for output in (logits, (logits, (logits,)))
    )
    assert torch.equal(alone, among_others)  # as with output_hidden_states
    metrics = evaluate_with_trainer(model, examples, tmp_path, batch_eval_metrics=True)
    assert metrics["eval_mean_iou"] == pytest.approx(metric.compute()["mean_iou"], abs=2e-3)


def test_padding_does_not_count():
    compute_metrics = make_compute_metrics(2, ignore_index=255)
    prediction = EvalPrediction(
        predictions=np.array([[[0, 1], [-100, 1]]], dtype=np.int32), label_ids=np.array([[[0, 0], [-100, 255]]])
    )
    metrics = compute_metrics(prediction)
    assert metrics == {
        "mean_iou": pytest.approx(0.25),
        "mean_accuracy": pytest.approx(0.5),
        "overall_accuracy": pytest.approx(0.5),
        "iou_0": pytest.approx(0.5),
        "iou_1": pytest.approx(0),
    }


def test_batches_add_up():
    compute_metrics = make_compute_metrics(2)
    right = EvalPrediction(predictions=np.array([[[0, 1]]]), label_ids=np.array([[[0, 1]]]))
    wrong = EvalPrediction(predictions=np.array([[[0, 1]]]), label_ids=np.array([[[1, 0]]]))
    assert compute_metrics(right, compute_result=False) == {}
    assert compute_metrics(wrong, compute_result=True)["overall_accuracy"] == 0.5
    assert compute_metrics(right)["overall_accuracy"] == 1


def test_repeated_names_are_told_apart():
    compute_metrics = make_compute_metrics(3, id2label={"0": "door", "1": "wall", "2": "door"})
    metrics = compute_metrics(EvalPrediction(predictions=np.array([[[0, 1]]]), label_ids=np.array([[[0, 1]]])))
    assert {"iou_door_0", "iou_wall", "iou_door_2"} < metrics.keys()


def test_says_what_is_missing():
    with pytest.raises(ValueError, match="preprocess_logits_for_metrics"):
        make_compute_metrics(2)(EvalPrediction(predictions=np.zeros((1, 2, 4, 4)), label_ids=np.zeros((1, 4, 4))))
    with pytest.raises(ValueError, match="id2label has 1 classes"):
        make_compute_metrics(2, id2label={0: "a"})
