# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps from logits: the same as resizing every class and taking the highest, with less work and memory."""

from collections.abc import Callable

import pytest
import torch
from torch.nn.functional import interpolate
from torch.utils._python_dispatch import TorchDispatchMode

from cgrseg_hf import CGRSegImageProcessor
from cgrseg_hf.model import post_processing_cgrseg
from cgrseg_hf.model.geometry_cgrseg import image_size_of_input
from cgrseg_hf.model.modeling_cgrseg import CGRSegSemanticSegmenterOutput
from cgrseg_hf.model.post_processing_cgrseg import classify_by_class, label_map_from_logits, resize_logits

# (size of the logits, image_size, target_size)
SIZES = [
    ((16, 21), (128, 168), (128, 168)),
    ((16, 21), (121, 163), (97, 133)),
    ((16, 21), (122, 161), (301, 255)),
    ((12, 9), None, (60, 45)),
    ((12, 9), None, (131, 124)),
    ((32, 40), None, (128, 160)),
    ((30, 40), None, (63, 70)),
    ((30, 40), None, (30, 40)),
    ((30, 40), (233, 320), (11, 40)),
    ((2, 3), None, (200, 300)),
    ((1, 1), (5, 3), (50, 30)),
    ((1, 12), None, (9, 110)),
]


def smooth(num_labels: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.randn(1, num_labels, height // 5 + 2, width // 5 + 2)
    return 3 * interpolate(coarse, size=(height, width), mode="bicubic")[0]


def rough(num_labels: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(num_labels, height, width)


def tied(num_labels: int, height: int, width: int) -> torch.Tensor:
    return smooth(num_labels, height, width).round()


def doubled(num_labels: int, height: int, width: int) -> torch.Tensor:
    return smooth(-(-num_labels // 2), height, width).repeat(2, 1, 1)[:num_labels]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def only_cells(monkeypatch):
    """Whatever it costs, look for the classes that can win."""
    find = post_processing_cgrseg._find_candidates
    monkeypatch.setattr(post_processing_cgrseg, "_LEAST_ENLARGEMENT", 0)
    monkeypatch.setattr(post_processing_cgrseg, "_find_candidates", lambda *inputs: find(*inputs[:-1], 10**9))
    monkeypatch.setattr(post_processing_cgrseg, "classify_by_class", None)


def count_differences(label_map: torch.Tensor, scores: torch.Tensor) -> int:
    """Pixels of another class than the highest's, all of which have one whose score is as high but for rounding."""
    different = label_map != scores.argmax(dim=0)
    scores = scores[:, different]
    behind = scores.amax(dim=0) - scores.gather(0, label_map.long()[different][None])[0]
    assert (behind <= 1e-5).all()
    return int(different.sum())


def assert_same(logits: torch.Tensor, image_size: tuple[int, int] | None, target_size: tuple[int, int]) -> None:
    label_map = label_map_from_logits(logits, image_size, target_size)
    assert label_map.dtype == torch.int64 and label_map.shape == target_size
    if image_size is None:
        scores = interpolate(logits[None], size=target_size, mode="bilinear")[0]
    else:
        scores = resize_logits(logits[None], image_size, target_size)[0]
    count_differences(label_map, scores)


@pytest.mark.parametrize("num_labels", [1, 2, 11, 150, 300])
@pytest.mark.parametrize("make_logits", [smooth, rough, tied, doubled])
def test_same_as_resizing_every_class(make_logits: Callable, num_labels: int):
    for (height, width), image_size, target_size in SIZES:
        assert_same(make_logits(num_labels, height, width), image_size, target_size)


@pytest.mark.parametrize("num_labels", [1, 2, 11, 60])
@pytest.mark.parametrize("make_logits", [smooth, rough, tied, doubled])
def test_same_by_cells_alone(make_logits: Callable, num_labels: int, only_cells):
    for (height, width), image_size, target_size in SIZES:
        assert_same(make_logits(num_labels, height, width), image_size, target_size)


def test_hardly_any_pixel_differs():
    logits = smooth(150, 32, 43)
    scores = interpolate(logits[None], size=(256, 344), mode="bilinear")[0]
    assert len(scores.argmax(dim=0).unique()) > 50
    assert count_differences(label_map_from_logits(logits, None, (256, 344)), scores) <= 2


def assert_first_wins(make_logits: Callable) -> None:
    # Whole numbers, and weights in 16ths: no score is rounded.
    logits = make_logits(20, 16, 21).round().repeat(2, 1, 1)
    expected = interpolate(logits[None], size=(128, 168), mode="bilinear")[0].argmax(dim=0)
    assert torch.equal(label_map_from_logits(logits, None, (128, 168)), expected)


@pytest.mark.parametrize("make_logits", [tied, rough])
def test_of_equal_classes_the_first_wins(make_logits: Callable):
    assert_first_wins(make_logits)


@pytest.mark.parametrize("make_logits", [tied, rough])
def test_of_equal_classes_the_first_wins_by_cells_alone(make_logits: Callable, only_cells):
    assert_first_wins(make_logits)


def test_smooth_logits_need_no_resizing_of_whole_classes(monkeypatch):
    monkeypatch.setattr(post_processing_cgrseg, "classify_by_class", None)
    label_map_from_logits(smooth(50, 32, 43), (250, 341), (480, 640))


def test_few_at_once_give_the_same(monkeypatch):
    logits = smooth(11, 16, 21)
    expected = label_map_from_logits(logits, (125, 165), (250, 330))
    monkeypatch.setattr(post_processing_cgrseg, "_LOGITS_AT_ONCE", 60)
    monkeypatch.setattr(post_processing_cgrseg, "_SCORES_AT_ONCE", 1)
    assert torch.equal(label_map_from_logits(logits, (125, 165), (250, 330)), expected)


class LargestTensor(TorchDispatchMode):
    """Notes how large the largest tensor is that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("make_logits", [smooth, rough])
def test_memory_is_that_of_a_few_classes(make_logits: Callable):
    logits = make_logits(150, 32, 40)
    with LargestTensor() as largest:
        label_map_from_logits(logits, None, (800, 1000))
    assert largest.elements <= 800 * 1000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_type(dtype: torch.dtype):
    logits = smooth(11, 16, 21).to(dtype)
    expected = label_map_from_logits(logits.float(), None, (128, 168))
    assert torch.equal(label_map_from_logits(logits, None, (128, 168)), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("make_logits", [smooth, rough])
def test_type_of_the_label_map(make_logits: Callable, dtype: torch.dtype):
    logits = make_logits(200, 16, 21)
    label_map = label_map_from_logits(logits, None, (128, 168), dtype)
    assert label_map.dtype == dtype
    assert torch.equal(label_map.long(), label_map_from_logits(logits, None, (128, 168)))


def test_refuses_types_that_do_not_hold_the_classes():
    label_map_from_logits(torch.zeros(256, 2, 2), None, (4, 4), torch.uint8)
    with pytest.raises(ValueError, match="does not hold the labels 0 to 256"):
        label_map_from_logits(torch.zeros(257, 2, 2), None, (4, 4), torch.uint8)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_counts_as_for_argmax(value: float):
    logits = smooth(11, 16, 21)
    logits[7, 5, 8:12] = value
    expected = interpolate(logits[None], size=(128, 168), mode="bilinear")[0].argmax(dim=0)
    assert torch.equal(label_map_from_logits(logits, None, (128, 168)), expected)


@pytest.mark.parametrize("value", [torch.inf, -torch.inf])
def test_of_equal_infinite_scores_the_first_wins(value: float):
    logits = torch.full((4, 6, 5), value)
    assert not classify_by_class(logits, lambda scores: scores).any()
    logits[0] = -torch.inf
    assert torch.equal(classify_by_class(logits, lambda scores: scores), logits.argmax(dim=0))


@pytest.mark.parametrize("make_logits", [smooth, rough])
def test_logits_in_any_layout_are_left_as_they_are(make_logits: Callable):
    logits = make_logits(11, 16, 21)
    expected = label_map_from_logits(logits, (121, 163), (250, 330))
    channels_last = logits[None].to(memory_format=torch.channels_last)[0]
    cut_out = torch.nn.functional.pad(logits, (3, 2, 1, 4))[:, 1:17, 3:24]
    for variant in (channels_last, cut_out, logits.clone().requires_grad_()):
        before = variant.detach().clone()
        label_map = label_map_from_logits(variant, (121, 163), (250, 330))
        assert torch.equal(label_map, expected) and torch.equal(variant, before)


def test_one_class_at_a_time_leaves_the_logits_as_they_are():
    logits = torch.randn(5, 8, 9)
    before = logits.clone()
    assert torch.equal(classify_by_class(logits, lambda scores: scores), before.argmax(dim=0))
    assert torch.equal(logits, before)


def test_batches_through_the_image_processor():
    logits = torch.stack([smooth(11, 16, 21), rough(11, 16, 21)])
    image_sizes = torch.tensor([[128, 150], [99, 168]], dtype=torch.int16)
    outputs = CGRSegSemanticSegmenterOutput(logits=logits, image_sizes=image_sizes)
    target_sizes = [(256, 300), (77, 130)]
    maps = CGRSegImageProcessor().post_process_semantic_segmentation(outputs, target_sizes=target_sizes)
    for index, target_size in enumerate(target_sizes):
        image_size = tuple(image_sizes[index].tolist())
        scores = resize_logits(logits[index : index + 1], image_size, target_size)[0]
        assert maps[index].shape == target_size
        assert count_differences(maps[index], scores) <= 2


def test_only_logits_of_stride_8_reach_beyond_the_input():
    assert image_size_of_input(torch.zeros(1, 2, 8, 7), (60, 52)) == (60, 52)
    assert image_size_of_input(torch.zeros(1, 2, 15, 13), (60, 52)) is None
