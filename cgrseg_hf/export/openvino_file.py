# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Write a model in OpenVINO's representation."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.utils import patch_environment
from torch import nn
from transformers.utils import logging

from ..engines.export_settings import ExportSettings
from ..utils.optional import import_optional
from .parts import Parts

if TYPE_CHECKING:
    import openvino


def write_openvino(
    parts: Parts, settings: ExportSettings, path: Path, calibration: Iterable[np.ndarray] | None = None
) -> None:
    """
    Convert each part by itself and join them.

    Args:
        parts ([`Parts`]): What to write.
        settings ([`ExportSettings`]): How.
        path (`Path`): Where, ending in .xml; the weights lie beside it.
        calibration (`Iterable[np.ndarray]`, *optional*): For int8, pixels (1, channels, height, width), float32.
    """
    openvino = import_optional("openvino", "export", "OpenVINO files")
    examples = parts.examples(None)
    # OpenVINO's and NNCF's tools report their use over the network, except where this is set.
    with patch_environment(CI="true"):
        models = {}
        for name, part in parts.named():
            model = _convert(part, examples, parts.inputs(name), parts.output(name))
            if name == "network" and settings.precision == "int8":
                model = _quantize(model, calibration)
            models[name] = model
    model = _join(list(models.values()), settings)
    if settings.size is not None:
        fixed = parts.examples(settings.size)[settings.input_name]
        model.reshape({settings.input_name: list(fixed.shape)})
    openvino.save_model(model, path, compress_to_fp16=settings.precision == "float16")


def _convert(part: nn.Module, examples: dict[str, torch.Tensor], inputs: list[str], output: str) -> "openvino.Model":
    import openvino

    any_length = {"image": [-1, -1, -1, None], "pixel_values": [-1, None, -1, -1], "logits": [-1, None, -1, -1]}
    example = tuple(examples[name] for name in inputs)
    shapes = [
        [known if length is None else length for length, known in zip(any_length[name], tensor.shape)]
        for name, tensor in zip(inputs, example)
    ]
    verbosity = logging.get_verbosity()
    try:
        with warnings.catch_warnings():
            # The tracer warns of each size that it reads, and that it is old, and touches attributes that transformers
            # warns of. The comparison with the model is the judge of the result.
            warnings.simplefilter("ignore")
            logging.set_verbosity_error()
            model = openvino.convert_model(part, example_input=example, input=shapes)
    finally:
        logging.set_verbosity(verbosity)
    for port, name in zip(model.inputs, inputs):
        port.get_tensor().set_names({name})
    model.output(0).get_tensor().set_names({output})
    return model


def _join(models: "list[openvino.Model]", settings: ExportSettings) -> "openvino.Model":
    """One graph of several, connected by the names of their inputs and outputs."""
    import openvino

    sources, parameters = {}, []
    for model in models:
        for parameter in model.get_parameters():
            (name,) = parameter.output(0).get_names()
            if name not in sources:
                parameters.append(parameter)
                sources[name] = parameter.output(0)
                continue
            for target in parameter.output(0).get_target_inputs():
                target.replace_source_output(sources[name])
        result = model.get_results()[0]
        (name,) = result.output(0).get_names()
        sources[name] = result.input_value(0)
    joined = openvino.Model([result], parameters, "cgrseg")
    joined.output(0).get_tensor().set_names({settings.output_name})
    joined.validate_nodes_and_infer_types()
    return joined


def _quantize(model: "openvino.Model", calibration: Iterable[np.ndarray]) -> "openvino.Model":
    """Convolutions with weights and inputs in 8 bits; attention and the head stay as they are."""
    nncf = import_optional("nncf", "quantize", "8-bit OpenVINO files")
    nncf.set_log_level(logging.WARNING)  # it would name each operation that stays as it is
    batches = list(calibration)
    return nncf.quantize(
        model,
        nncf.Dataset(batches),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(batches),
        # Without validation, which refuses types that a model has none of.
        ignored_scope=nncf.IgnoredScope(
            types=["MatMul", "Softmax", "Interpolate", "ReduceMean", "AvgPool"], validate=False
        ),
    )
