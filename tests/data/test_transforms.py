# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The training recipe's augmentation."""

import colorsys

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from cgrseg_hf.data.transforms import (
    PadToSize,
    PhotometricDistortion,
    RandomCropByClassShare,
    RandomFitResize,
    largest_class_share,
    scale_saturation,
    training_transforms,
)


def pair(height: int, width: int, seed: int = 0) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """An image of noise, and a label map of the ids 3, 7, 200 and 255."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
    ids = torch.tensor([3, 7, 200, 255], dtype=torch.uint8)
    return tv_tensors.Image(image), tv_tensors.Mask(ids[torch.randint(0, 4, (height, width), generator=generator)])


@pytest.mark.parametrize("size", [(40, 60), (300, 200), (1, 1), (97, 800)])
def test_what_comes_out_fits_the_model(size):
    transform = training_transforms(crop_size=(64, 96), resize_to=(256, 64))
    torch.manual_seed(0)
    for _ in range(20):
        image, label_map = transform(*pair(*size))
        assert image.shape == (3, 64, 96)
        assert image.dtype == torch.float32
        assert label_map.shape == (64, 96)
        assert set(label_map.unique().tolist()) <= {3, 7, 200, 255}  # no class is invented


def test_padding_is_ignored_and_has_the_mean_color():
    image, label_map = training_transforms(crop_size=(64, 64), resize_to=(32, 32), scale_range=(1, 1))(*pair(20, 20))
    assert label_map[:32, :32].ne(255).any()
    assert label_map[32:].eq(255).all()
    assert label_map[:, 32:].eq(255).all()
    assert image[:, 32:].eq(0).all()
    assert image[:, :, 32:].eq(0).all()
    image, label_map = PadToSize((4, 4), ignore_index=-100)(
        tv_tensors.Image(torch.ones(3, 2, 2)), tv_tensors.Mask(torch.ones(2, 2, dtype=torch.int32))
    )
    assert label_map.unique().tolist() == [-100, 1]


def test_pixels_are_normalised_as_the_image_processor_does():
    white = tv_tensors.Image(torch.full((3, 64, 64), 255, dtype=torch.uint8))
    label_map = tv_tensors.Mask(torch.zeros(64, 64, dtype=torch.uint8))
    transform = training_transforms((64, 64), (64, 64), (1, 1), photometric_distortion=False)
    image, _ = transform(white, label_map)
    expected = (255 - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor([58.395, 57.12, 57.375])
    torch.testing.assert_close(image[:, 0, 0].as_subclass(torch.Tensor), expected)


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (512, 683)), ((640, 480), (683, 512)), ((100, 1000), (205, 2048))]
)
def test_resizing_fits_both_bounds_and_keeps_the_ratio(size, expected):
    image, label_map = RandomFitResize((2048, 512), (1.0, 1.0))(*pair(*size))
    assert image.shape[-2:] == label_map.shape[-2:] == expected


def test_scales_cover_their_range():
    torch.manual_seed(0)
    resize = RandomFitResize((100, 100), (0.5, 2.0))
    heights = [resize(*pair(10, 10))[0].shape[-1] for _ in range(200)]
    assert 50 <= min(heights) < 60
    assert 190 < max(heights) <= 200


def test_crops_avoid_a_class_that_fills_them():
    label_map = torch.zeros(64, 64, dtype=torch.uint8)
    label_map[:, 56:] = 1  # with crops of 16, only those at the right edge hold two classes
    image = tv_tensors.Image(torch.zeros(3, 64, 64, dtype=torch.uint8))

    def share_of_good_crops(max_class_share: float) -> float:
        torch.manual_seed(0)
        crop = RandomCropByClassShare((16, 16), max_class_share)
        crops = [crop(image, tv_tensors.Mask(label_map))[1] for _ in range(200)]
        assert all(one.shape == (16, 16) for one in crops)
        return sum(largest_class_share(one.as_subclass(torch.Tensor), 255) < 0.75 for one in crops) / 200

    one_try = 4 / 49  # of the 49 places to the right, 4 have five columns or more of the other class
    assert share_of_good_crops(1.0) == pytest.approx(one_try, abs=0.06)
    assert share_of_good_crops(0.75) == pytest.approx(1 - (1 - one_try) ** 10, abs=0.1)


def test_ignored_pixels_do_not_count_for_the_share():
    label_map = torch.tensor([[0, 0, 1, 255], [0, 255, 255, 255]], dtype=torch.uint8)
    assert largest_class_share(label_map, 255) == 0.75
    assert largest_class_share(torch.full((2, 2), 255, dtype=torch.uint8), 255) == 1


def test_image_and_label_map_stay_together():
    values = torch.arange(64 * 64).reshape(64, 64) % 251
    image = tv_tensors.Image(values.to(torch.uint8).expand(3, 64, 64))
    label_map = tv_tensors.Mask(values.to(torch.uint8))
    transform = training_transforms((32, 32), (64, 64), (1, 1), photometric_distortion=False)
    for seed in range(8):
        torch.manual_seed(seed)
        pixels, labels = transform(image, label_map)
        restored = (pixels[0] * 58.395 + 123.675).round()
        assert torch.equal(restored.long().as_subclass(torch.Tensor), labels.long().as_subclass(torch.Tensor))


def test_saturation_is_that_of_hsv():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8, generator=generator)
    for factor in (0.5, 1.0, 1.5):
        scaled = scale_saturation(image, factor).permute(1, 2, 0).reshape(-1, 3).tolist()
        for before, after in zip(image.permute(1, 2, 0).reshape(-1, 3).tolist(), scaled):
            hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in before))
            expected = colorsys.hsv_to_rgb(hue, min(saturation * factor, 1), value)
            np.testing.assert_allclose(after, [channel * 255 for channel in expected], atol=1.01)


def test_distortion_changes_colors_alone():
    image, label_map = pair(16, 16)
    torch.manual_seed(0)
    distort = PhotometricDistortion()
    results = [distort(image, label_map) for _ in range(20)]
    assert all(torch.equal(labels, label_map) for _, labels in results)
    changed = [not torch.equal(pixels, image) for pixels, _ in results]
    assert 0.7 < sum(changed) / 20 <= 1  # each of four changes comes half of the time
    assert all(pixels.dtype == torch.uint8 for pixels, _ in results)
