# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""An exported folder as an engine: ONNX Runtime, OpenVINO or a program of torch.export."""

from pathlib import Path

import torch
from transformers import AutoConfig

from .engine import Engine, resolve_device
from .export_settings import read_settings
from .runtimes import load_runtime

ENGINES_OF_FORMATS = {"onnx": "onnxruntime", "openvino": "openvino", "torch": "torch"}


class ExportedEngine(Engine):
    """
    A folder that `cgrseg export` wrote, with the engine that it is for.

    Args:
        folder (`str` or `Path`): The folder.
        device (`str` or `torch.device`): Where to run.
        dtype (`torch.dtype`, *optional*): Type of the arithmetic, if another than the folder's is possible.
        num_threads (`int`, *optional*): Processor cores to use.

    Raises:
        ValueError: If the export takes pictures or gives label maps, or does not fit what is asked for.
    """

    def __init__(
        self,
        folder: str | Path,
        device: str | torch.device,
        dtype: torch.dtype | None = None,
        num_threads: int | None = None,
    ):
        settings = read_settings(folder)
        if settings.include_preprocessing or settings.include_argmax:
            raise ValueError(
                f"{folder} takes {settings.input_name} and gives {settings.output_name}; engines, the Segmenter and "
                "pipelines need a file that takes pixel_values and gives logits: export without preprocessing and "
                "argmax."
            )
        precision = None if dtype is None else str(dtype).removeprefix("torch.")
        self._runtime = load_runtime(folder, num_threads, precision, str(device))
        self.name = ENGINES_OF_FORMATS[settings.format]
        self.device = torch.device(device)
        self.dtype = getattr(torch, self._runtime.precision)
        self.config = AutoConfig.from_pretrained(folder)

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See [`Engine`]."""
        return torch.from_numpy(self._runtime(pixel_values.cpu().numpy())).to(self.device)


def open_export(
    folder: str | Path,
    engine: str,
    device: str | torch.device | None,
    dtype: torch.dtype | None,
    num_threads: int | None,
) -> Engine:
    """
    Open an exported folder by the engine that it is for.

    Raises:
        ValueError: If another engine or device is asked for than it has.
    """
    needed = ENGINES_OF_FORMATS[read_settings(folder).format]
    if engine not in ("auto", needed):
        raise ValueError(f"engine={engine!r}, but {folder} is for engine={needed!r}.")
    if needed == "torch" and num_threads is not None:
        torch.set_num_threads(num_threads)
    return ExportedEngine(folder, resolve_device(needed, device), dtype, num_threads)
