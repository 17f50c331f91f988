# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What several test files use."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

# Tiny models gain nothing from a second thread, and on a busy machine threads that wait for each other cost minutes.
# Set before torch reads it, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fill  # the rule by which the reference's weights and inputs were made
import torch
from helpers.hub_process import Hub, start_hub

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.export import ExportReport, export_model
from cgrseg_hf.model.modeling_efficientformerv2 import position_distances
from cgrseg_hf.utils.optional import find_missing_packages

pytest_plugins = ("helpers.training_runs",)

# What these are of needs torchvision, an extra.
_OF_TRAINING = (
    *("conversion/test_imagenet.py", "data/test_batches.py", "data/test_transforms.py"),
    *("reliability/test_data_at_scale.py", "reliability/test_training_faults.py"),
    *("training/test_loop.py", "training/test_resume.py"),
)
collect_ignore = list(_OF_TRAINING) if find_missing_packages(["torchvision"]) else []

FIXTURES = Path(__file__).parent / "fixtures"

# What an export in each format needs besides PyTorch.
NEEDED_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",), "torch": ()}

# What `-m quick` selects: the model's folder but for its trainings, and the metric.
QUICK = re.compile(r"tests/(model/(?!test_trainer)\w+|evaluation/test_metric)\.py")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no other test files for `-m quick`, which takes a third of its time."""
    is_other = collection_path.suffix == ".py" and not QUICK.search(collection_path.as_posix())
    return True if config.option.markexpr == "quick" and is_other else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the quick tests."""
    for item in items:
        is_slow = any(item.get_closest_marker(name) for name in ("long", "reliability"))
        if QUICK.search(item.path.as_posix()) and not is_slow:
            item.add_marker(pytest.mark.quick)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., CGRSegConfig]:
    """Make the configuration of a model with every part of CGRSeg, each as small as can be."""

    def make(num_labels: int = 5, **overrides) -> CGRSegConfig:
        settings = {"decoder_hidden_size": 16, "num_pyramid_blocks": 1, "num_labels": num_labels, **overrides}
        settings["backbone_config"] = {
            "hidden_sizes": [16, 16, 32, 32],
            "depths": [1, 1, 2, 2],
            "num_attention_blocks": 1,
            "num_attention_heads": 2,
            "attention_key_size": 8,
            "downsample_attention_key_size": 4,
            "mlp_expansion_ratios": 2,
            **overrides.get("backbone_config", {}),
        }
        return CGRSegConfig(**settings)

    return make


@pytest.fixture(scope="session")
def photos() -> Path:
    """A folder of photos."""
    return FIXTURES / "photos" / "images"


@pytest.fixture
def postscript(tmp_path, monkeypatch) -> Path:
    """A program named as a photo; the test fails if it is handed to Ghostscript, as Pillow would to decode it."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    file = tmp_path / "photo.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    return file


@pytest.fixture(scope="session")
def decided_model(tiny_config) -> CGRSegForSemanticSegmentation:
    """A tiny model whose scores lie so far apart that no rounding error decides between classes."""
    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(tiny_config()).eval()
    torch.nn.init.normal_(model.head.classifier.weight, std=3.0)
    return model


@pytest.fixture(scope="session")
def decided_folder(decided_model, tmp_path_factory) -> Path:
    """That model in a folder, with an image processor for small pictures."""
    folder = tmp_path_factory.mktemp("decided")
    decided_model.save_pretrained(folder)
    CGRSegImageProcessor(size={"shortest_edge": 96, "longest_edge": 400}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A Hub of this computer's own."""
    with start_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub


@pytest.fixture(scope="session")
def exported(decided_folder, tmp_path_factory) -> Callable[..., ExportReport]:
    """Export that model, each way once; what is written is shared and stays as it is."""
    reports = {}

    def export(format: str, precision: str = "float32", **settings) -> ExportReport:
        for package in NEEDED_PACKAGES[format]:
            pytest.importorskip(package)
        way = (format, precision, *sorted(settings.items()))
        if way not in reports:
            folder = tmp_path_factory.mktemp("exports") / format
            reports[way] = export_model(decided_folder, folder, format, precision, **settings)
        return reports[way]

    return export


@pytest.fixture(scope="session")
def official_state_dict() -> Callable[[str], dict[str, torch.Tensor]]:
    """Make a checkpoint of the reference code in one of the sizes, `t`, `b` or `l`, with the rule's weights."""

    def make(size: str) -> dict[str, torch.Tensor]:
        shapes = json.loads((FIXTURES / "parity" / f"official_state_dict_{size}.json").read_text())
        generator = torch.Generator().manual_seed(0)
        state_dict = {}
        for name, shape in shapes.items():
            values = fill.fill(name, tuple(shape))
            if values is not None:
                state_dict[name] = torch.from_numpy(np.asarray(values))
            elif name.endswith("num_batches_tracked"):
                state_dict[name] = torch.tensor(len(state_dict))
            elif name.endswith("attention_biases"):  # carried along, never used
                state_dict[name] = torch.randn(shape, generator=generator)
            else:
                num_queries, num_keys = shape
                query_stride = round((num_keys / num_queries) ** 0.5)
                state_dict[name] = position_distances(round(num_queries**0.5), query_stride)
        return state_dict

    return make
