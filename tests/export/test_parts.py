# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The parts of exported graphs in PyTorch: the image processor's pixels, post-processing's label maps."""

import numpy as np
import pytest
import torch
from transformers import SegformerImageProcessorPil
from transformers.image_utils import PILImageResampling, SizeDict

from cgrseg_hf import CGRSegImageProcessorPil
from cgrseg_hf.export.parity import make_picture
from cgrseg_hf.export.parts import LabelMap, PicturePreparation, _resized_size
from cgrseg_hf.model.image_processing_cgrseg import get_output_size

SIZES = ((65, 96), (97, 131), (200, 90), (300, 400))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"size": {"shortest_edge": 70}},
        {"size": {"longest_edge": 333}},
        {"size": {"shortest_edge": 96, "longest_edge": 120}},
        {"size": {"height": 64, "width": 100}},
        {"size": {"max_height": 90, "max_width": 100}},
        {"size": {"shortest_edge": 150}, "resample": PILImageResampling.BICUBIC},
        {"do_resize": False},
        {"do_rescale": False},
        {"do_normalize": False},
        {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7], "size_divisor": 16},
    ],
)
def test_pixels_of_the_image_processor(settings):
    image_processor = CGRSegImageProcessorPil(**settings)
    preparation = PicturePreparation(image_processor)
    for size in SIZES:
        picture = make_picture(size)
        expected = image_processor([picture], return_tensors="pt", do_pad=False)["pixel_values"]
        pixels = preparation(torch.from_numpy(picture)[None])
        torch.testing.assert_close(pixels, expected, rtol=1e-5, atol=1e-5)


def test_sizes_of_the_image_processor():
    sizes = np.random.default_rng(0).integers(1, 5000, (2000, 2)).tolist()
    for bounds in ({"shortest_edge": 512, "longest_edge": 2048}, {"shortest_edge": 96, "longest_edge": 400}):
        size = SizeDict(**bounds)
        for height, width in sizes:
            assert tuple(map(int, _resized_size(height, width, size))) == get_output_size((height, width), size)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"antialias": True}, "antialias=True"),
        ({"resample": PILImageResampling.NEAREST}, "resample=0"),
        ({"pad_size": {"height": 640, "width": 640}}, "pad_size="),
        ({"size_divisor": 64}, "size_divisor=64"),
    ],
)
def test_settings_without_a_counterpart(settings, message):
    with pytest.raises(ValueError, match=rf"{message}.*export without it"):
        PicturePreparation(CGRSegImageProcessorPil(**settings))


def test_settings_that_are_switched_off_do_not_matter():
    PicturePreparation(CGRSegImageProcessorPil(do_resize=False, antialias=True, do_pad=False, size_divisor=64))


def test_image_processors_of_other_models():
    with pytest.raises(ValueError, match="not SegformerImageProcessorPil: export without it"):
        PicturePreparation(SegformerImageProcessorPil())


@pytest.mark.parametrize(
    ("num_labels", "dtype"), [(1, torch.uint8), (5, torch.uint8), (256, torch.uint8), (300, torch.int32)]
)
def test_label_maps_of_post_processing(num_labels, dtype):
    generator = torch.Generator().manual_seed(num_labels)
    image_processor = CGRSegImageProcessorPil()
    for size in SIZES[:2]:
        logits = torch.randn(2, num_labels, -(-size[0] // 8), -(-size[1] // 8), generator=generator)
        pixel_values = torch.zeros(2, 3, *size)
        for target in (size, (61, 143)):
            image = None if target == size else torch.zeros(2, *target, 3, dtype=torch.uint8)
            outputs = type("Outputs", (), {"logits": logits, "image_sizes": [size] * 2})
            expected = torch.stack(image_processor.post_process_semantic_segmentation(outputs, [target] * 2))
            labels = LabelMap()(logits, pixel_values, image)
            assert labels.dtype == dtype
            assert labels.shape == expected.shape == (2, *target)
            assert (labels == expected).float().mean() > 0.9999
