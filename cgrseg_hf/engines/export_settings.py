# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The settings of an export, kept in the folder's export.json."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .names import PRECISIONS as FLOAT_PRECISIONS
from .names import full_name

EXPORT_FILE = "export.json"
FORMATS = ("onnx", "openvino", "torch")
PRECISIONS = (*FLOAT_PRECISIONS, "int8")
MODEL_FILES = {"onnx": "model.onnx", "openvino": "model.xml", "torch": "model.pt2"}
# 20 is the first with Gelu as one operator.
DEFAULT_OPSET = 20
LOWEST_OPSET = 18


@dataclass(frozen=True)
class ExportSettings:
    """
    Settings of an export.

    Args:
        format (`str`): `"onnx"`, `"openvino"` or `"torch"`.
        precision (`str`): `"float32"`, `"float16"`, `"bfloat16"` or `"int8"`.
        include_preprocessing (`bool`): Take images, uint8 `(batch, height, width, 3)`, named `image`, instead of
            normalised pixels `(batch, 3, height, width)`, named `pixel_values`.
        include_argmax (`bool`): Return label maps of the input's size, named `labels`, instead of `logits`.
        size (`tuple[int, int]`, *optional*): The only height and width of the input; its batch is then 1.
        opset (`int`): Version of ONNX's operators; only for ONNX.

    Raises:
        ValueError: If a value does not exist, or two do not go together.
    """

    format: str = "onnx"
    precision: str = "float32"
    include_preprocessing: bool = False
    include_argmax: bool = False
    size: tuple[int, int] | None = None
    opset: int = DEFAULT_OPSET

    def __post_init__(self):
        object.__setattr__(self, "precision", full_name(self.precision))
        if self.size is not None:
            object.__setattr__(self, "size", tuple(self.size))
        for name, known in (("format", FORMATS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"Unknown {name}={getattr(self, name)!r}: use one of {', '.join(map(repr, known))}.")
        if self.format == "onnx" and self.precision == "bfloat16":
            raise ValueError(
                "ONNX Runtime has no bfloat16 convolutions on CPUs. Use format='openvino' for bfloat16 on a CPU, or "
                "precision='float16' for ONNX on a GPU."
            )
        if self.format == "torch" and self.precision == "int8":
            raise ValueError("precision='int8' is for the formats 'onnx' and 'openvino', whose tools quantise.")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ValueError(f"size={self.size}: give height and width in pixels, such as (512, 512).")
        if self.opset < LOWEST_OPSET:
            raise ValueError(f"opset={self.opset} is too old: use {LOWEST_OPSET} or more, by default {DEFAULT_OPSET}.")

    @property
    def input_name(self) -> str:
        """`"image"` or `"pixel_values"`."""
        return "image" if self.include_preprocessing else "pixel_values"

    @property
    def output_name(self) -> str:
        """`"labels"` or `"logits"`."""
        return "labels" if self.include_argmax else "logits"

    @property
    def file(self) -> str:
        """Name of the file that the engine loads."""
        return MODEL_FILES[self.format]


def is_export(folder: Any) -> bool:
    """Return whether a path is a folder that an export wrote."""
    return isinstance(folder, str | Path) and (Path(folder) / EXPORT_FILE).is_file()


def write_settings(folder: Path, settings: ExportSettings, **extra: Any) -> None:
    """Write export.json: the settings, the names of file, input and output, and what else is passed."""
    content = {**asdict(settings), "file": settings.file, "input": settings.input_name, "output": settings.output_name}
    text = json.dumps({**content, **extra}, indent=2, ensure_ascii=False)
    (folder / EXPORT_FILE).write_text(text + "\n", encoding="utf-8")


def read_settings(folder: str | Path) -> ExportSettings:
    """
    Read export.json.

    Raises:
        ValueError: If the folder is not an export, or its file is damaged.
    """
    path = Path(folder) / EXPORT_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{folder} has no {EXPORT_FILE}: it is not a folder that `cgrseg export` wrote.") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): export the model again.") from error
    names = {field.name for field in fields(ExportSettings)}
    try:
        return ExportSettings(**{name: value for name, value in content.items() if name in names})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not describe an export ({error}): export the model again.") from error
