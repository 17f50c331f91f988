# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Importing the package is cheap, and whatever is imported first, the auto classes know CGRSeg."""

import subprocess
import sys
from pathlib import Path

import pytest

from cgrseg_hf import model

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


FIRST = [
    "import cgrseg_hf",
    "import cgrseg_hf; from transformers import SegformerForSemanticSegmentation",
    "from transformers import AutoConfig, AutoImageProcessor, AutoModel; import cgrseg_hf",
    "import cgrseg_hf.model.modeling_efficientformerv2",
]
FIRST_OF_MANY = [
    "from transformers import AutoConfig; import cgrseg_hf",
    "import cgrseg_hf; from transformers import AutoImageProcessor",
    "import cgrseg_hf; from transformers import pipeline",
    "from transformers import pipeline; import cgrseg_hf",
    "import cgrseg_hf; from transformers import Trainer",
    "from transformers import Trainer; import cgrseg_hf",
    *(f"import cgrseg_hf.model.{file.stem}" for file in sorted(Path(model.__file__).parent.glob("[!_]*.py"))),
]


@pytest.mark.parametrize(
    "first", [*FIRST, *(pytest.param(one, marks=pytest.mark.long) for one in FIRST_OF_MANY if one not in FIRST)]
)
def test_auto_classes_know_the_model(first: str):
    assert run(f"{first}\n{CHECK}") == KNOWN


@pytest.mark.long
def test_reloading_registers_nothing_anew():
    code = """
import importlib, cgrseg_hf
from cgrseg_hf.utils import registration
registration.register_post_import_hook = lambda *_: print("again")
importlib.reload(cgrseg_hf)
"""
    assert run(f"{code}\n{CHECK}") == KNOWN


def test_public_names_are_there():
    import cgrseg_hf

    assert all(getattr(cgrseg_hf, name) for name in cgrseg_hf.__all__)
    assert set(cgrseg_hf.__all__) <= set(dir(cgrseg_hf))
    with pytest.raises(AttributeError, match="attribute CGRSegModle"):
        cgrseg_hf.CGRSegModle  # noqa: B018
