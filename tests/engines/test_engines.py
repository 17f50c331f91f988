# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Engines: each computes the PyTorch model's logits, and exports that they need are made once."""

import copy
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from cgrseg_hf.engines.export_settings import is_export
from cgrseg_hf.engines.exported_engine import OpenVinoEngine
from cgrseg_hf.engines.torch_engine import PlainEngine, TorchEngine
from cgrseg_hf.export import ParityError
from cgrseg_hf.export.cache import _fingerprint, find_or_make_export
from cgrseg_hf.export.choosing import make_engine


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """The Hugging Face cache, for this file's tests a folder of their own, and in it the exports."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HOME", str(home))
        yield home / "cgrseg_hf" / "exports"


@pytest.fixture
def threads():
    """Leave the process's number of threads as it was."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(2, 3, 97, 131, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def logits(decided_model, pixels) -> torch.Tensor:
    with torch.no_grad():
        return decided_model(pixels).logits


def assert_same(answer: torch.Tensor, logits: torch.Tensor, tolerance: float = 1e-3) -> None:
    assert answer.dtype == torch.float32 and answer.device.type == "cpu"
    torch.testing.assert_close(answer, logits, rtol=0, atol=tolerance * float(logits.abs().max()))


def exports_in(cache: Path) -> dict[str, int]:
    return {folder.name: folder.stat().st_ino for folder in cache.glob("*") if folder.is_dir()}


def test_torch(decided_model, decided_folder, pixels, logits):
    for source in (decided_model, str(decided_folder)):
        engine = make_engine(source, "torch", "cpu")
        assert type(engine) is TorchEngine
        assert (engine.name, engine.device, engine.dtype) == ("torch", torch.device("cpu"), torch.float32)
        assert engine.config.id2label == decided_model.config.id2label
        assert_same(engine(pixels), logits)


def test_plain(decided_model, pixels, logits):
    """The very model, to the last digit."""
    engine = PlainEngine(decided_model)
    assert (engine.name, engine.device, engine.dtype) == ("torch", torch.device("cpu"), torch.float32)
    assert engine.model is decided_model
    torch.testing.assert_close(engine(pixels), logits, rtol=0, atol=0)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        expected = decided_model(pixels).logits.float()
    engine = PlainEngine(decided_model, autocast=torch.bfloat16)
    assert engine.dtype == torch.bfloat16
    torch.testing.assert_close(engine(pixels), expected, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"CGRSegModel returns .* without logits"):
        PlainEngine(decided_model.cgrseg)(pixels)


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_the_callers_model_stays_as_it_is(decided_model, pixels, logits, dtype):
    model = copy.deepcopy(decided_model).train()
    engine = make_engine(model, "torch", "cpu", dtype)
    assert engine.dtype == getattr(torch, str(dtype).removeprefix("torch."))
    assert_same(engine(pixels), logits, 0.25)
    assert model.training and model.dtype == torch.float32
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.long
def test_compiled(decided_model, pixels, logits):
    engine = make_engine(decided_model, "compile", "cpu")
    assert engine.name == "compile"
    for one, expected in ((pixels, logits), (pixels[:, :, :64, :96], None), (pixels, logits)):
        answer = engine(one)
        assert_same(answer, make_engine(decided_model, "torch", "cpu")(one) if expected is None else expected)


def test_openvino_is_exported_once(decided_model, decided_folder, cache, pixels, logits):
    pytest.importorskip("openvino")
    first = make_engine(decided_model, "openvino", num_threads=1)
    assert type(first) is OpenVinoEngine
    assert (first.name, first.device, first.dtype) == ("openvino", torch.device("cpu"), torch.float32)
    assert_same(first(pixels), logits)
    made = {name: number for name, number in exports_in(cache).items() if name.startswith("openvino-float32-")}
    assert len(made) == 1
    assert is_export(cache / next(iter(made)))
    # The same model, wherever it came from.
    second = make_engine(decided_folder, "auto", "cpu", "float32", num_threads=1)
    assert second.name == "openvino"
    torch.testing.assert_close(second(pixels), first(pixels))
    assert made.items() <= exports_in(cache).items()
    assert len([name for name in exports_in(cache) if name.startswith("openvino-float32-")]) == 1
    assert find_or_make_export(decided_model, "openvino", "float32") == cache / next(iter(made))


def test_exports_are_named_by_all_that_they_depend_on(decided_model):
    name = _fingerprint(decided_model)
    other = copy.deepcopy(decided_model)
    assert _fingerprint(other) == name
    other.head.classifier.bias.data[0] += 1e-3
    assert _fingerprint(other) != name
    renamed = copy.deepcopy(decided_model)
    renamed.config.id2label = {0: "road", **{index: str(index) for index in range(1, 5)}}
    assert _fingerprint(renamed) != name


def test_caches_that_cannot_be_written_leave_torch(decided_model, tmp_path, monkeypatch, caplog):
    pytest.importorskip("openvino")
    (tmp_path / "home").touch()
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    assert make_engine(decided_model, "auto", "cpu").name == "torch"
    assert "openvino is not used, since the model cannot be exported here: " in caplog.text


@pytest.mark.long
def test_models_that_cannot_be_exported_run_in_torch(decided_model, cache, pixels, caplog):
    pytest.importorskip("openvino")
    broken = copy.deepcopy(decided_model)
    broken.head.classifier.weight.data.fill_(float("nan"))
    before = exports_in(cache)
    assert make_engine(broken, "auto", "cpu")(pixels).isnan().any()
    assert "openvino is not used, since the model cannot be exported here: The exported file is not" in caplog.text
    with pytest.raises(ParityError):
        make_engine(broken, "openvino")
    assert exports_in(cache) == before


@pytest.mark.long
def test_onnxruntime(decided_model, cache, pixels, logits):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    for _ in range(2):
        engine = make_engine(decided_model, "onnxruntime", num_threads=1)
        assert (engine.name, engine.dtype) == ("onnxruntime", torch.float32)
        assert_same(engine(pixels), logits)
    assert len([name for name in exports_in(cache) if name.startswith("onnx-")]) == 1
    with pytest.raises(ValueError, match=r"no bfloat16 convolutions on CPUs"):
        make_engine(decided_model, "onnxruntime", dtype="bf16")


def test_exported_folders(exported, decided_model, pixels, logits):
    folder = exported("openvino").folder
    for engine in ("auto", "openvino"):
        made = make_engine(folder, engine, num_threads=1)
        assert (made.name, made.dtype, made.device) == ("openvino", torch.float32, torch.device("cpu"))
        assert made.config.id2label == decided_model.config.id2label
        assert_same(made(pixels), logits)
    other_type = make_engine(str(folder), dtype="bfloat16", num_threads=1)
    assert other_type.dtype == torch.bfloat16
    assert_same(other_type(pixels), logits, 0.25)
    with pytest.raises(ValueError, match=r"engine='torch', but .* is for engine='openvino'"):
        make_engine(folder, "torch")
    with pytest.raises(ValueError, match="takes image and returns labels"):
        make_engine(exported("openvino", include_preprocessing=True, include_argmax=True).folder)


@pytest.mark.long
def test_exported_programs_of_torch(exported, threads):
    folder = exported("torch", size=(97, 131)).folder
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        make_engine(folder)
    engine = make_engine(folder, num_threads=threads + 1, trust_remote_code=True)
    assert engine.name == "torch"
    assert torch.get_num_threads() == threads + 1
    with pytest.raises(ValueError, match=r"holds a float32 model, and float16 is asked for"):
        make_engine(folder, dtype="float16", trust_remote_code=True)


def test_other_models_run_in_torch():
    config = SegformerConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16
    )
    model = SegformerForSemanticSegmentation(config).eval()
    engine = make_engine(model, "auto", "cpu")
    assert engine.name == "torch"
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(engine(pixels), model(pixels).logits)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_number_of_threads(decided_model, threads):
    make_engine(decided_model, "torch", "cpu", num_threads=threads + 2)
    assert torch.get_num_threads() == threads + 2
    make_engine(decided_model, "torch", "cpu")
    assert torch.get_num_threads() == threads + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "tensorrt"}, "Unknown engine='tensorrt': use one of 'auto', 'torch', 'compile'"),
        ({"dtype": "int8"}, "dtype='int8' is not supported: use one of 'float32', 'bfloat16', 'float16'"),
        ({"dtype": "float33"}, "dtype='float33' is not supported"),
        ({"dtype": torch.float64}, "dtype=torch.float64 is not supported"),
        ({"engine": "openvino", "device": "meta"}, "'meta', but OpenVINO"),
        ({"device": "graphics"}, "device='graphics' cannot be used here: use 'cpu', or 'cuda' for a GPU"),
    ],
)
def test_mistakes_in_words(decided_model, exported, arguments, message):
    source = exported("openvino").folder if arguments.get("engine") == "openvino" else decided_model
    with pytest.raises(ValueError, match=message):
        make_engine(source, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
@pytest.mark.parametrize("engine", ["auto", "torch", "openvino"])
def test_gpus_that_are_not_there(decided_model, engine):
    with pytest.raises(ValueError, match=r"device='cuda:0', but PyTorch finds no CUDA device here: use device='cpu'"):
        make_engine(decided_model, engine, "cuda:0")
