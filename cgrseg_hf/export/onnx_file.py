# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Write an ONNX file."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..engines.export_settings import ExportSettings
from ..utils.optional import import_optional
from .parts import Parts

if TYPE_CHECKING:
    import onnx


def write_onnx(
    parts: Parts, settings: ExportSettings, path: Path, calibration: Iterable[np.ndarray] | None = None
) -> None:
    """
    Export each part by itself and join them.

    By itself, since the exporter's arithmetic on symbols takes minutes where sizes are functions of functions of the
    input's, and since only the network is to be quantised.

    Args:
        parts ([`Parts`]): What to write.
        settings ([`ExportSettings`]): How.
        path (`Path`): Where.
        calibration (`Iterable[np.ndarray]`, *optional*): For int8, pixels (1, channels, height, width), float32.
    """
    onnx = import_optional("onnx", "export", "ONNX files")
    import_optional("onnxscript", "export", "ONNX files")
    examples = parts.examples(settings.size)
    models = []
    for name, part in parts.named():
        model = _export(part, examples, parts.inputs(name), parts.output(name), settings)
        if name == "network" and settings.precision == "int8":
            model = _quantize(model, calibration, path.parent)
        models.append(onnx.compose.add_prefix(model, f"{name}/", rename_inputs=False, rename_outputs=False))
    onnx.save(_join(models, settings), path)


def _export(
    part: nn.Module, examples: dict[str, torch.Tensor], inputs: list[str], output: str, settings: ExportSettings
) -> "onnx.ModelProto":
    """One part, with the axes named that may have any length."""
    axes = {
        "image": {0: "batch", 1: "image_height", 2: "image_width"},
        "pixel_values": {0: "batch", 2: "height", 3: "width"},
        "logits": {0: "batch", 2: "rows", 3: "columns"},
    }
    program = torch.onnx.export(
        part,
        tuple(examples[name] for name in inputs),
        input_names=inputs,
        output_names=[output],
        opset_version=settings.opset,
        dynamic_shapes=None if settings.size else tuple(axes[name] for name in inputs),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    return program.model_proto


def _join(models: "list[onnx.ModelProto]", settings: ExportSettings) -> "onnx.ModelProto":
    """One graph of several, connected by the names of their inputs and outputs."""
    from onnx import checker, helper

    values = {value.name: value for model in models for value in model.graph.input}
    graph = helper.make_graph(
        nodes=[node for model in models for node in model.graph.node],
        name="cgrseg",
        inputs=[values[settings.input_name]],
        outputs=list(models[-1].graph.output),
        initializer=[tensor for model in models for tensor in model.graph.initializer],
    )
    opsets = {(opset.domain, opset.version) for model in models for opset in model.opset_import}
    joined = helper.make_model(
        graph,
        producer_name="cgrseg_hf",
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(opsets)],
        ir_version=max(model.ir_version for model in models),
    )
    checker.check_model(joined)
    return joined


def _quantize(model: "onnx.ModelProto", calibration: Iterable[np.ndarray], folder: Path) -> "onnx.ModelProto":
    """Convolutions with weights and inputs in 8 bits, each output channel's weights with a scale of its own."""
    import onnx

    import_optional("onnxruntime", "export", "8-bit ONNX files")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.batches = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"pixel_values": batch}

    # Otherwise ONNX Runtime advises folding the batch normalisations, which are folded.
    add_pre_process_metadata(model)
    path = folder / "quantized.onnx"
    quantize_static(
        model,
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv"],
        per_channel=True,
        # Weights of 7 bits: without VNNI, processors add products in 16 bits, which those of 8 bits can overflow.
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    quantized = onnx.load(path)
    path.unlink()
    return quantized
