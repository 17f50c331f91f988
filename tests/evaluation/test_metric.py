# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Mean IoU: by hand, against the metric of evaluate, and what it refuses."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf.evaluation import (
    EvaluationProtocol,
    MeanIoU,
    evaluate_model,
    metrics_from_confusion_matrix,
    predict_label_map,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"


def assert_equal(ours: dict, others: dict) -> None:
    assert ours.keys() == others.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], others[name], err_msg=name)


def make_noise(num_labels: int = 7) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Label maps of several sizes with ignored pixels, a class that only the predictions have, and one of neither."""
    generator = np.random.default_rng(0)
    predictions, references = [], []
    for size in [(5, 9), (1, 1), (30, 17), (0, 5), (8, 8)]:
        reference = generator.integers(0, num_labels - 2, size)
        reference[generator.random(size) < 0.2] = 255
        references.append(reference)
        predictions.append(generator.integers(0, num_labels - 1, size))
    return predictions, references


def read_photos() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Annotations of photos, and the same moved by some pixels."""
    files = sorted((FIXTURES / "photos" / "annotations").glob("*.png"))[:5]
    references = [np.asarray(Image.open(path))[::3, ::3] for path in files]
    return [np.where(moved == 255, 0, moved) for moved in (np.roll(one, 20, axis=1) for one in references)], references


@pytest.fixture
def compute_by_evaluate(tmp_path, monkeypatch):
    """The metric of evaluate, whose copies and tables go where the test's files go."""
    monkeypatch.setattr("evaluate.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "metrics"))
    return evaluate.load(str(FIXTURES / "mean_iou"), keep_in_memory=True).compute


def test_by_hand():
    metric = MeanIoU(num_labels=4)
    metric.add(prediction=[[0, 1, 1], [1, 2, 0]], reference=[[0, 0, 1], [1, 255, 1]])
    assert metric.confusion_matrix.tolist() == [[1, 1, 0, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    metrics = metric.compute()
    np.testing.assert_allclose(metrics["per_category_iou"], [1 / 3, 2 / 4, np.nan, np.nan])
    np.testing.assert_allclose(metrics["per_category_accuracy"], [1 / 2, 2 / 3, np.nan, np.nan])
    assert metrics["mean_iou"] == pytest.approx(5 / 12)
    assert metrics["mean_accuracy"] == pytest.approx(7 / 12)
    assert metrics["overall_accuracy"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(("maps", "num_labels"), [(make_noise, 7), (read_photos, 171)])
def test_equals_the_metric_of_evaluate(maps, num_labels: int, compute_by_evaluate):
    predictions, references = maps()
    expected = compute_by_evaluate(
        predictions=predictions, references=references, num_labels=num_labels, ignore_index=255
    )
    assert 0.05 < expected["mean_iou"] < 0.95
    assert_equal(MeanIoU(num_labels).compute(predictions=predictions, references=references), expected)


def test_a_model_scores_as_by_the_metric_of_evaluate(model, image_processor, data, compute_by_evaluate):
    examples, how = [data.read(row) for row in data.rows], EvaluationProtocol(reference=True)
    expected = compute_by_evaluate(
        predictions=[predict_label_map(model, one.image, image_processor, how).numpy() for one in examples],
        references=[one.label_map for one in examples],
        num_labels=5,
        ignore_index=255,
    )
    assert_equal(evaluate_model(model, image_processor, data, how, progress=False).metrics, expected)


def test_one_by_one_equals_the_batch():
    predictions, references = make_noise()
    metric = MeanIoU(7)
    for prediction, reference in zip(predictions, references):
        metric.add(prediction=prediction, reference=reference)
    metric.add_batch(predictions=[], references=[])
    expected = MeanIoU(7).compute(predictions=predictions, references=references)
    assert metric.confusion_matrix.dtype == np.int64
    assert_equal(metrics_from_confusion_matrix(metric.confusion_matrix), expected)
    assert_equal(metric.compute(), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("convert", [np.uint8, np.int64, np.uint16, ">u2", torch.uint8, torch.int16, torch.int64, list])
def test_takes_arrays_tensors_and_lists(convert):
    prediction, reference = np.array([[[0, 1], [1, 1]]] * 2), np.array([[[0, 0], [1, 255]]] * 2)
    if convert is list:
        prediction, reference = prediction.tolist(), reference.tolist()
    elif isinstance(convert, torch.dtype):
        prediction, reference = torch.tensor(prediction).to(convert), torch.tensor(reference).to(convert)
    else:
        prediction, reference = prediction.astype(convert), reference.astype(convert)
        reference.flags.writeable = False
    metric = MeanIoU(2)
    metric.add_batch(predictions=prediction, references=reference)
    metric.add_batch(predictions=prediction, references=reference)  # it left them as they are
    assert metric.confusion_matrix.tolist() == [[4, 4], [0, 4]]


def test_ignored_label_may_be_negative_or_a_class():
    assert MeanIoU(2, -100).compute(predictions=[[[1, 1]]], references=[[[-100, 1]]])["overall_accuracy"] == 1
    metric = MeanIoU(2, ignore_index=0)
    metric.add(prediction=[[0, 0, 1]], reference=[[0, 1, 1]])
    assert metric.confusion_matrix.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("wrong", [7, 255, -1, 2**40])
@pytest.mark.parametrize("where", ["prediction", "reference"])
def test_refuses_classes_that_do_not_exist(where: str, wrong: int):
    maps = {"prediction": [[0, 1]], "reference": [[0, 1]], where: [[0, wrong]]}
    with pytest.raises(ValueError, match=rf"{where.capitalize()} 0 holds \[{wrong}\]"):
        MeanIoU(7, ignore_index=254).add(**maps)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([[[0]], [[0]]], [[[0]], [[3]]], r"Reference 1 holds \[3\]"),
        ([[[0]], [[0]]], [[[0]], [[0, 1]]], r"Prediction 1 has shape \(1, 1\).*\(1, 2\)"),
        ([[[0]], [[0.5]]], [[[0]], [[0]]], "Prediction 1 has the type .*float64"),
        ([[[0]], torch.zeros(1, 1)], [[[0]], [[0]]], "Prediction 1 has the type .*float32"),
        ([[[0]]], [[[0]], [[0]]], "1 predictions but 2 references"),
        ([[[0]]], None, "Both predictions and references"),
    ],
)
def test_a_batch_counts_whole_or_not_at_all(predictions, references, message: str):
    metric = MeanIoU(2)
    with pytest.raises(ValueError, match=message):
        metric.add_batch(predictions=predictions, references=references)
    with pytest.raises(ValueError, match="Nothing was counted"):
        metric.compute()


def test_computing_starts_anew():
    metric = MeanIoU(2)
    metric.add(prediction=[[1]], reference=[[1]])
    assert metric.compute()["mean_iou"] == 1
    with pytest.raises(ValueError, match="Nothing was counted"):
        metric.compute()
    assert np.isnan(metric.compute(predictions=[[[1]]], references=[[[255]]])["mean_iou"])
    with pytest.raises(ValueError, match="num_labels=0"):
        MeanIoU(0)


def test_combines_with_other_metrics_of_evaluate():
    both = evaluate.combine([MeanIoU(2)])
    assert both.compute(predictions=[[[1]]], references=[[[1]]])["mean_iou"] == 1
