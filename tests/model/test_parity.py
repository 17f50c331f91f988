# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The reference code's numbers, array by array: `fixtures/parity` holds them and says how they were made."""

from pathlib import Path

import fill
import numpy as np
import pytest
import torch
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor, CGRSegImageProcessorPil
from cgrseg_hf.conversion import from_official

FIXTURES = Path(__file__).parents[1] / "fixtures"
INPUTS = {"small": (64, 96, 2, 0), "square": (512, 512, 1, 1), "wide": (512, 704, 1, 2)}
NUM_PARAMETERS = {"t": 9_364_647, "b": 19_114_871, "l": 35_677_703}
TOLERANCE = 2e-5


@pytest.fixture(scope="module", params=["t", "b", "l"])
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(size: str, official_state_dict) -> CGRSegForSemanticSegmentation:
    return from_official(official_state_dict(size))


@pytest.fixture(scope="module")
def golden(size: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "parity" / f"golden_{size}.npz") as arrays:
        return dict(arrays)


def record(model: CGRSegForSemanticSegmentation, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every tensor that the reference's arrays show, under their names."""
    recorded: dict[str, torch.Tensor] = {}
    handles = []

    def watch(module: torch.nn.Module, name: str, transform=lambda output: output) -> None:
        hook = module.register_forward_hook(lambda _, args, output: recorded.__setitem__(name, transform(output)))
        handles.append(hook)

    for index, stage in enumerate(model.cgrseg.backbone.stages):
        watch(stage, f"stage{index}")
    pyramid, reconstruction, head = model.cgrseg.pyramid_context, model.cgrseg.reconstruction, model.head
    handles.append(
        pyramid.blocks[0].register_forward_pre_hook(lambda _, args: recorded.__setitem__("pyramid_pool", args[0]))
    )
    watch(pyramid, "pyramid_context", lambda contexts: torch.cat(contexts, dim=1))
    for index in range(3):
        watch(reconstruction.calibrations[index], f"reconstruction_{index}")
        watch(reconstruction.fusions[index], f"fusion_{index}")
    watch(head.coarse_normalization, "fused", torch.relu)
    handles.append(
        head.class_score.register_forward_pre_hook(
            lambda _, args: recorded.__setitem__("class_embedding", args[0].transpose(1, 2)[..., None])
        )
    )
    watch(head.gate_projection, "gate", torch.sigmoid)
    with torch.no_grad():
        recorded["logits"] = model(pixel_values).logits
    recorded["dpg"] = recorded["fusion_0"] * recorded.pop("gate")[:, :, None, None]
    for handle in handles:
        handle.remove()
    return recorded


def thin_out(name: str, array: np.ndarray) -> np.ndarray:
    """The part of an array that the larger inputs' files hold."""
    steps = {"logits": (6, 4), "stage0": (8, 8), "stage1": (8, 4)}.get(name, (8, 2))
    return array[:, :: steps[0], :: steps[1], :: steps[1]]


@pytest.mark.parametrize("case", INPUTS)
def test_every_array_of_the_reference(case: str, model: CGRSegForSemanticSegmentation, golden: dict):
    recorded = record(model, torch.from_numpy(fill.image(*INPUTS[case])))
    names = {name.removeprefix(f"{case}_") for name in golden if name.startswith(case)}
    for name in names - {"argmax"}:
        ours = recorded[name].numpy()
        ours = ours if case == "small" else thin_out(name, ours)
        np.testing.assert_allclose(ours, golden[f"{case}_{name}"], rtol=0, atol=TOLERANCE, err_msg=name)
    if "argmax" in names:
        np.testing.assert_array_equal(recorded["logits"].argmax(1).numpy(), golden[f"{case}_argmax"])


def test_number_of_parameters(size: str, model: CGRSegForSemanticSegmentation):
    assert sum(parameter.numel() for parameter in model.parameters()) == NUM_PARAMETERS[size]


@pytest.mark.parametrize("processor_class", [CGRSegImageProcessor, CGRSegImageProcessorPil])
@pytest.mark.parametrize("name", ["000000010014", "000000010114", "000000012062"])
def test_photo_to_label_map(processor_class: type, name: str, reference_t: CGRSegForSemanticSegmentation):
    with np.load(FIXTURES / "parity" / "protocol_t.npz") as arrays:
        sizes = arrays[f"{name}_sizes"].tolist()
        resized, label_map = arrays[f"{name}_resized_rgb"], arrays[f"{name}_label_map"]
    photo = Image.open(FIXTURES / "photos" / "images" / f"{name}.jpg")
    processor = processor_class()

    pixels = processor(photo, return_tensors="pt", do_rescale=False, do_normalize=False, do_pad=False)
    inputs = processor(photo, return_tensors="pt")
    with torch.no_grad():
        outputs = reference_t(**inputs)
    ours = processor.post_process_semantic_segmentation(outputs, target_sizes=[sizes[:2]])[0]

    assert inputs.image_sizes.tolist() == [sizes[2:4]]
    assert list(inputs.pixel_values.shape[-2:]) == sizes[4:]
    levels = pixels.pixel_values[0].permute(1, 2, 0).numpy()[::3, ::3] - resized.astype(float)
    assert np.abs(levels).max() <= 1
    assert (ours.numpy()[::2, ::2] == label_map).mean() >= 0.99


@pytest.fixture(scope="module")
def reference_t(official_state_dict) -> CGRSegForSemanticSegmentation:
    """The reference's CGRSeg-T, with the rule's weights."""
    return from_official(official_state_dict("t"))
