# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What everything else is compared to computes the same."""

import pytest
import torch

from cgrseg_hf.benchmark.contenders import Contender
from cgrseg_hf.benchmark.plain import PlainExport, PlainTorch
from cgrseg_hf.benchmark.sources import load_source


def test_plain_pytorch_is_the_model_itself(tiny_model):
    model = load_source(str(tiny_model)).model
    pixel_values = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        expected = model(pixel_values).logits
    engine = PlainTorch(model, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(engine(pixel_values), expected, atol=1e-6, rtol=1e-5)
    half = PlainTorch(model, torch.device("cpu"), torch.bfloat16)(pixel_values)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, atol=0.02, rtol=0.02)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_plain_export_computes_what_the_model_does(tiny_segformer):
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package)
    source = load_source(str(tiny_segformer))
    model, files = source.model, source.onnx_files
    pixel_values = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(pixel_values).logits
    for name in ("onnxruntime", "openvino"):
        engine = PlainExport(files, name, torch.float32, num_threads=1)
        engine.export(pixel_values.shape)
        torch.testing.assert_close(engine(pixel_values), expected, atol=1e-4, rtol=1e-4)
        assert Contender(source, engine, "plain").make_whole_path((64, 96)) is None  # no pipeline runs it
    assert files.get(pixel_values.shape) == files.get(pixel_values.shape)  # one export for both
    with pytest.raises(ValueError, match="does not run in bfloat16 on onnxruntime"):
        PlainExport(files, "onnxruntime", torch.bfloat16, num_threads=1)
