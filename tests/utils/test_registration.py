# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Importing the package is cheap, and whatever is imported first, the auto classes know CGRSeg."""

import subprocess
import sys

import pytest

CHECK = """
from transformers import AutoBackbone, AutoConfig, AutoModel, AutoModelForSemanticSegmentation
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
settings = dict(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_blocks=1, mlp_expansion_ratios=1)
backbone_config = AutoConfig.for_model("efficientformerv2", **settings)
config = AutoConfig.for_model("cgrseg", backbone_config=backbone_config)
models = [auto.from_config(config) for auto in (AutoModel, AutoModelForSemanticSegmentation)]
names = [type(model).__name__ for model in [*models, AutoBackbone.from_config(backbone_config)]]
print(*names, *(value.__name__ for value in IMAGE_PROCESSOR_MAPPING[type(config)].values()))
"""
KNOWN = (
    "CGRSegModel CGRSegForSemanticSegmentation EfficientFormerV2Backbone CGRSegImageProcessor CGRSegImageProcessorPil"
)


def run(code: str) -> str:
    """What a fresh Python process prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = {"accelerate", "datasets", "evaluate", "torch", "torchvision", "transformers"}
    assert run(f"import cgrseg_hf, sys; print(sorted({heavy} & sys.modules.keys()))") == "[]"
    heavy = {"datasets", "evaluate"}
    code = (
        f"from cgrseg_hf import CGRSegForSemanticSegmentation; import sys; print(sorted({heavy} & sys.modules.keys()))"
    )
    assert run(code) == "[]"


@pytest.mark.parametrize(
    "first",
    [
        "import cgrseg_hf",
        pytest.param(
            "from transformers import AutoImageProcessor, AutoModel; import cgrseg_hf", marks=pytest.mark.long
        ),
        pytest.param("from transformers import AutoConfig; import cgrseg_hf", marks=pytest.mark.long),
        "from cgrseg_hf.model.modeling_efficientformerv2 import EfficientFormerV2Backbone",
        pytest.param("import cgrseg_hf, importlib; importlib.reload(cgrseg_hf)", marks=pytest.mark.long),
    ],
)
def test_auto_classes_know_the_model(first: str):
    assert run(f"{first}\n{CHECK}") == KNOWN


def test_public_names_are_there():
    import cgrseg_hf

    assert all(getattr(cgrseg_hf, name) for name in cgrseg_hf.__all__)
    assert set(cgrseg_hf.__all__) <= set(dir(cgrseg_hf))
    with pytest.raises(AttributeError, match="attribute CGRSegModle"):
        cgrseg_hf.CGRSegModle  # noqa: B018
