# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A model over a data set: every image once, whoever reads it."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.data import load_data
from cgrseg_hf.engines import PlainEngine
from cgrseg_hf.evaluation import MeanIoU, evaluate_model, predict_label_map


def evaluate_quietly(model, image_processor, data, *args, **options):
    return evaluate_model(model, image_processor, data, *args, progress=False, **options)


@pytest.fixture(scope="module")
def whole(model, image_processor, data):
    return evaluate_quietly(model, image_processor, data, keep_worst=3)


def test_counts_every_image_at_its_own_size(whole, model, image_processor, data):
    metric = MeanIoU(5)
    for row in data.rows:
        example = data.read(row)
        label_map = predict_label_map(model, example.image, image_processor)
        metric.add(prediction=label_map, reference=example.label_map)
    np.testing.assert_array_equal(whole.confusion_matrix, metric.confusion_matrix)
    np.testing.assert_array_equal(whole.metrics["per_category_iou"], metric.compute()["per_category_iou"])
    assert whole.num_images == 7 and whole.id2label == data.id2label and whole.precision == "float32"


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_and_streams_give_the_same(streaming: bool, num_workers: int, whole, model, image_processor, folder):
    data = load_data(folder, "validation", streaming=streaming)
    result = evaluate_quietly(model, image_processor, data, num_workers=num_workers, keep_worst=3)
    np.testing.assert_array_equal(result.confusion_matrix, whole.confusion_matrix)
    assert [image.name for image in result.worst] == [image.name for image in whole.worst]


@pytest.mark.parametrize("limit", [None, 5])
def test_parts_make_the_whole(limit: int | None, model, image_processor, data):
    parts = []
    for process_index in range(3):
        evaluate_quietly(
            *(model, image_processor, data),
            process_index=process_index,
            num_processes=3,
            reduce=lambda tensor: parts.append(tensor) or tensor,
            limit=limit,
            keep_worst=1,
        )
    expected = evaluate_quietly(model, image_processor, data, limit=limit)
    summed = sum(parts).numpy()
    assert summed.dtype == np.int64 and summed[-1] == (limit or 7)
    np.testing.assert_array_equal(summed[:-1].reshape(5, 5), expected.confusion_matrix)


def test_takes_engines_and_exported_folders(whole, model, image_processor, data, exported):
    result = evaluate_quietly(PlainEngine(model), image_processor, data)
    np.testing.assert_array_equal(result.confusion_matrix, whole.confusion_matrix)
    result = evaluate_quietly(exported("openvino").folder, image_processor, data, limit=1)
    assert (result.num_images, result.precision, result.device) == (1, "float32", "cpu")


def test_worst_images_are_the_worst(whole, model, image_processor, data):
    everything = evaluate_quietly(model, image_processor, data, keep_worst=100).worst
    assert [image.mean_iou for image in everything] == sorted(image.mean_iou for image in everything)
    assert [image.name for image in whole.worst] == [image.name for image in everything[:3]]
    for image in everything:
        example = data.read(data.rows[image.position])
        assert image.name == example.name
        present = [one for one in range(5) if (example.label_map == one).any()]
        counted = example.label_map != 255
        ious = [
            ((image.prediction == one) & (example.label_map == one)).sum()
            / (((image.prediction == one) & counted) | (example.label_map == one)).sum()
            for one in present
        ]
        assert image.mean_iou == pytest.approx(np.mean(ious))


def test_every_module_gets_its_mode_back(model, image_processor, data):
    modes = {}

    def note(module, args):
        modes["training"] = module.training

    model.train()
    model.cgrseg.backbone.eval()
    handle = model.register_forward_pre_hook(note)
    evaluate_quietly(model, image_processor, data, limit=1)
    assert modes == {"training": False}
    assert model.training and model.head.training and not model.cgrseg.backbone.stages.training
    handle.remove()
    model.eval()


def test_refuses_data_of_other_classes(model, image_processor, folder):
    data = load_data(folder, "validation", id2label=dict(enumerate("abcd")))
    with pytest.raises(ValueError, match="5 classes, but the data 4"):
        evaluate_quietly(model, image_processor, data)


def test_refuses_several_processes_that_cannot_sum(model, image_processor, data):
    with pytest.raises(ValueError, match="needs reduce"):
        evaluate_quietly(model, image_processor, data, num_processes=2)
    with pytest.raises(ValueError, match="at least one"):
        evaluate_quietly(model, image_processor, data, limit=0)


def test_refuses_data_without_images(model, image_processor, data):
    nothing = dataclasses.replace(data, rows=data.rows.select([]))
    with pytest.raises(ValueError, match=r"no image to evaluate on in .*7 pairs"):
        evaluate_quietly(model, image_processor, nothing)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_names_the_file_that_is_wrong(num_workers: int, model, image_processor, tmp_path):
    for kind in ("images", "annotations"):
        (tmp_path / "val" / kind).mkdir(parents=True)
        Image.new("L", (8, 8), 9).save(tmp_path / "val" / kind / "bad.png")
    data = load_data(tmp_path, "validation", id2label=dict(enumerate("abcde")))
    with pytest.raises(ValueError, match=r"bad\.png") as caught:
        evaluate_quietly(model, image_processor, data, num_workers=num_workers)
    assert "Traceback" not in str(caught.value)
