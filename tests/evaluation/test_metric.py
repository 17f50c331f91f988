# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Mean IoU: by hand, against its definition, and what it refuses."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf.evaluation import MeanIoU
from cgrseg_hf.evaluation.metric import count_pixels

ANNOTATIONS = sorted((Path(__file__).parents[1] / "fixtures" / "photos" / "annotations").glob("*.png"))


def assert_equal(ours: dict, others: dict) -> None:
    assert ours.keys() == others.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], others[name], err_msg=name)


def random_maps(num_labels: int = 7) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps of several sizes with ignored pixels, a class that only the predictions have, and one that none has."""
    generator = np.random.default_rng(0)
    predictions, references = [], []
    for size in [(5, 9), (1, 1), (30, 17), (8, 8)]:
        reference = generator.integers(0, num_labels - 2, size)
        reference[generator.random(size) < 0.2] = 255
        references.append(reference)
        predictions.append(generator.integers(0, num_labels - 1, size))
    return predictions, references


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


def test_class_in_predictions_alone_counts_as_zero():
    metrics = MeanIoU(3).compute(predictions=[[[0, 2]]], references=[[[0, 0]]])
    np.testing.assert_array_equal(metrics["per_category_iou"], [0.5, np.nan, 0])
    np.testing.assert_array_equal(metrics["per_category_accuracy"], [0.5, np.nan, np.nan])


def test_equals_the_definition(evaluates_folders):
    predictions, references = random_maps()
    theirs = evaluate.load(evaluates_folders)
    theirs.add_batch(predictions=predictions, references=references)
    expected = theirs.compute(num_labels=7, ignore_index=255)
    assert_equal(MeanIoU(7).compute(predictions=predictions, references=references), expected)


def test_equals_the_definition_on_annotations_of_photos(evaluates_folders):
    references = [np.asarray(Image.open(path))[::3, ::3] for path in ANNOTATIONS[:5]]
    predictions = [np.where(shifted == 255, 0, shifted) for shifted in (np.roll(one, 20, axis=1) for one in references)]
    theirs = evaluate.load(evaluates_folders)
    expected = theirs.compute(predictions=predictions, references=references, num_labels=171, ignore_index=255)
    assert 0.2 < expected["mean_iou"] < 0.95
    assert_equal(MeanIoU(171).compute(predictions=predictions, references=references), expected)


def test_pieces_and_processes_equal_the_whole():
    predictions, references = random_maps()
    whole, pieces, first, second = (MeanIoU(7) for _ in range(4))
    whole.add_batch(predictions=predictions, references=references)
    for index, (prediction, reference) in enumerate(zip(predictions, references)):
        pieces.add(prediction=prediction, reference=reference)
        (first, second)[index % 2].add(prediction=prediction, reference=reference)
    first.merge(second)
    summed = MeanIoU(7)
    summed.add_confusion_matrix(torch.from_numpy(first.confusion_matrix))
    assert len(pieces) == len(first) == 4
    expected = whole.compute()
    for metric in (pieces, first, summed):
        assert_equal(metric.compute(), expected)


@pytest.mark.parametrize("convert", [np.uint8, np.int64, np.uint16, ">u2", torch.uint8, torch.int16, torch.int64, list])
def test_takes_arrays_tensors_and_lists(convert):
    prediction, reference = np.array([[[0, 1], [1, 1]]] * 2), np.array([[[0, 0], [1, 255]]] * 2)
    if convert is list:
        prediction, reference = prediction.tolist(), reference.tolist()
    elif isinstance(convert, torch.dtype):
        prediction, reference = torch.tensor(prediction).to(convert), torch.tensor(reference).to(convert)
    else:
        prediction, reference = prediction.astype(convert), reference.astype(convert)
    metric = MeanIoU(2)
    metric.add_batch(predictions=prediction, references=reference)
    assert metric.confusion_matrix.tolist() == [[2, 2], [0, 2]]


def test_leaves_its_inputs_alone():
    prediction, reference = torch.tensor([[0, 1]], dtype=torch.int32), torch.tensor([[255, 1]], dtype=torch.int32)
    reference_array = np.array([[255, 1]], dtype=np.int32)
    MeanIoU(2).add_batch(predictions=[prediction, prediction], references=[reference, reference_array])
    assert prediction.tolist() == [[0, 1]] and reference.tolist() == reference_array.tolist() == [[255, 1]]


def test_ignored_label_may_be_negative_or_a_class():
    assert MeanIoU(2, -100).compute(predictions=[[[1, 1]]], references=[[[-100, 1]]])["overall_accuracy"] == 1
    metric = MeanIoU(2, ignore_index=0)
    metric.add(prediction=[[0, 0, 1]], reference=[[0, 1, 1]])
    assert metric.confusion_matrix.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("wrong", [7, 255, -1, 2**40])
@pytest.mark.parametrize("where", ["prediction", "reference"])
def test_refuses_classes_that_do_not_exist(where: str, wrong: int):
    metric = MeanIoU(7, ignore_index=254)
    maps = {"prediction": [[0, 1]], "reference": [[0, 1]], where: [[0, wrong]]}
    remedy = "Is num_labels the model's" if where == "prediction" else r"Map the ids, .*\(now 254\)"
    with pytest.raises(ValueError, match=rf"{where.capitalize()} 0 holds \[{wrong}\].*0 to 6\)\. {remedy}"):
        metric.add(**maps)
    assert not metric.confusion_matrix.any()


def test_says_how_many_classes_do_not_exist():
    for count, end in ((10, r"10\], but"), (11, r"10\] and more, but")):
        with pytest.raises(ValueError, match=end):
            MeanIoU(1).add(prediction=np.zeros((1, count), dtype=np.uint8), reference=np.arange(1, count + 1)[None])


def test_one_class_alone():
    assert MeanIoU(1).compute(predictions=[[[0, 0]]], references=[[[0, 255]]])["mean_iou"] == 1
    with pytest.raises(ValueError, match="at least one class"):
        MeanIoU(0)


def test_a_batch_counts_whole_or_not_at_all():
    metric = MeanIoU(2)
    for maps, message in (
        ([[[0]], [[3]]], "Reference 1 holds"),
        ([[[0]], [[0, 1]]], r"Prediction 1 has shape \(1, 1\), but its reference \(1, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.add_batch(predictions=[[[0]], [[0]]], references=maps)
    for name in ("Prediction", "Reference"):
        maps = {"predictions": [[[0]], [[0]]], "references": [[[0]], [[0]]]}
        maps[f"{name.lower()}s"][1] = [[0.5]]
        with pytest.raises(ValueError, match=rf"{name} 1 has the type float64.*argmax"):
            metric.add_batch(**maps)
    with pytest.raises(ValueError, match="Both predictions and references"):
        metric.add_batch(predictions=[[[0]]])
    with pytest.raises(ValueError, match="Both predictions and references"):
        metric.compute(references=[[[0]]])
    assert len(metric) == 0 and not metric.confusion_matrix.any()


@pytest.mark.filterwarnings("error")
def test_nothing_warns():
    read_only = np.zeros((1, 2), dtype=np.uint8)
    read_only.flags.writeable = False
    metrics = MeanIoU(3).compute(predictions=[read_only], references=[read_only])
    np.testing.assert_array_equal(metrics["per_category_iou"], [1, np.nan, np.nan])
    assert np.isnan(MeanIoU(3).compute(predictions=[read_only], references=[[[255, 255]]])["mean_iou"])


def test_pixels_are_counted_in_whole_numbers():
    metric = MeanIoU(2)
    assert metric.confusion_matrix.dtype == np.int64
    metric.add(prediction=np.zeros((0, 5), dtype=np.uint8), reference=np.zeros((0, 5), dtype=np.uint8))
    assert metric.confusion_matrix.dtype == np.int64 and len(metric) == 1 and not metric.confusion_matrix.any()
    assert count_pixels([[0, 1]], [[255, 1]], 2).tolist() == [[0, 0], [0, 1]]
    with pytest.raises(ValueError, match="Prediction 0"):
        count_pixels([[2]], [[1]], 2)


def test_batches_without_maps_change_nothing():
    metric = MeanIoU(2)
    metric.add(prediction=[[1]], reference=[[1]])
    metric.add_batch(predictions=[], references=[])
    assert len(metric) == 1 and metric.compute()["overall_accuracy"] == 1 and len(metric) == 0


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({"prediction": [[0, 1]], "reference": [[0]]}, "shape"),
        ({"prediction": [[0.5]], "reference": [[0]]}, "argmax"),
        ({"prediction": torch.zeros(1, 1), "reference": [[0]]}, "argmax"),
    ],
)
def test_refuses_what_is_no_pair_of_maps(maps: dict, message: str):
    with pytest.raises(ValueError, match=message):
        MeanIoU(2).add(**maps)


def test_refuses_unequal_numbers_of_maps_and_foreign_matrices():
    with pytest.raises(ValueError, match="1 predictions but 2 references"):
        MeanIoU(2).add_batch(predictions=[[[0]]], references=[[[0]], [[0]]])
    with pytest.raises(ValueError, match=r"must be \(2, 2\)"):
        MeanIoU(2).add_confusion_matrix(np.zeros((3, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="negative"):
        MeanIoU(2).add_confusion_matrix(np.full((2, 2), -1))
    with pytest.raises(ValueError, match="make both alike"):
        MeanIoU(2).merge(MeanIoU(2, ignore_index=-100))


def test_computing_starts_anew():
    metric = MeanIoU(2)
    with pytest.raises(ValueError, match="Nothing was counted"):
        metric.compute()
    metric.add(prediction=[[1]], reference=[[1]])
    assert metric.compute()["mean_iou"] == 1
    with pytest.raises(ValueError, match="Nothing was counted"):
        metric.compute()
    assert np.isnan(metric.compute(predictions=[[[1]]], references=[[[255]]])["mean_iou"])


def test_is_a_metric_of_evaluate_without_files(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", str(tmp_path / "metrics"))
    metric = MeanIoU(2)
    metric.add(prediction=[[1]], reference=[[1]])
    assert isinstance(metric, evaluate.Metric) and metric.name == "mean_iou"
    both = evaluate.combine([metric])
    assert both.compute(predictions=[[[1]]], references=[[[1]]])["mean_iou"] == 1
    assert list(tmp_path.iterdir()) == []
