# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What to measure, checked before PyTorch is loaded."""

from dataclasses import dataclass, field
from pathlib import Path

from ..engines.names import ENGINE_NAMES, PRECISIONS, full_name
from ..pretrained.locating import PRESET_NAMES

SEGFORMER_NAMES = ("segformer-b0", "segformer-b1", "segformer-b2")
# Names of models with random weights.
CONFIGURATION_NAMES = (*PRESET_NAMES, *SEGFORMER_NAMES)
FORMS = ("inference", "plain")
ENGINES = tuple(name for name in ENGINE_NAMES if name != "auto")
STAGES = {
    "preparation": "photo's file to normalised pixels: reading, decoding, resizing, normalising, by the model's image "
    "processor",
    "network": "normalised pixels in the device's memory to logits in the device's memory, float32 both",
    "post-processing": "logits to the label map at the photo's own size, by the model's image processor",
    "whole-path": "photo's file to the label map at the photo's own size, one photo at a time: inference forms and "
    "exports in this package's Segmenter, plain models in transformers' image-segmentation pipeline",
}


@dataclass(frozen=True)
class BenchmarkSettings:
    """
    What to measure.

    Args:
        models (`list[str]`): Models as `cgrseg benchmark` accepts them. The others are compared with the first.
        engines (`list[str]`): `"torch"`, `"compile"`, `"onnxruntime"`, `"openvino"`.
        forms (`list[str]`): `"inference"`, `"plain"`.
        precisions (`list[str]`): `"float32"`, `"bfloat16"`, `"float16"`.
        stages (`list[str]`): Names from `STAGES`. All but the network are measured with single photos only.
        sizes (`list[tuple[int, int]]`): Heights and widths of the network's input in pixels.
        batch_sizes (`list[int]`): Images in one call of the network.
        threads (`list[int]`, *optional*): Processor cores to use. By default PyTorch's choice.
        photos (`Path`, *optional*): A photo or a folder of photos, for all stages but the network.
        rounds (`int`): Number of times to measure each; 0 to count only.
        device (`str`, *optional*): Device for PyTorch. By default a GPU if there is one.
        keep_freed_memory (`bool`): Keep freed memory in the process, see [`keep_freed_memory`].
        trust_remote_code (`bool`): Allow exports of the format torch, see [`make_engine`].

    Raises:
        ValueError: If a value does not exist or does not fit the others.
    """

    models: list[str]
    engines: list[str] = field(default_factory=lambda: ["torch"])
    forms: list[str] = field(default_factory=lambda: list(FORMS))
    precisions: list[str] = field(default_factory=lambda: ["float32"])
    stages: list[str] = field(default_factory=lambda: ["network"])
    sizes: list[tuple[int, int]] = field(default_factory=lambda: [(512, 512)])
    batch_sizes: list[int] = field(default_factory=lambda: [1])
    threads: list[int] | None = None
    photos: Path | None = None
    rounds: int = 15
    device: str | None = None
    keep_freed_memory: bool = False
    trust_remote_code: bool = False

    def __post_init__(self):
        object.__setattr__(self, "precisions", list(map(full_name, self.precisions)))
        _check_names("engine", self.engines, ENGINES)
        _check_names("form", self.forms, FORMS)
        _check_names("precision", self.precisions, PRECISIONS)
        _check_names("stage", self.stages, tuple(STAGES))
        for numbers in (self.batch_sizes, [1] if self.threads is None else self.threads, *self.sizes):
            if min(numbers, default=0) < 1:
                raise ValueError(f"Got {numbers}: sizes, batch sizes and threads are 1 or more.")
        if self.needs_photos and self.photos is None:
            raise ValueError("Stages other than the network need photos: name a photo or a folder of photos.")

    @property
    def needs_photos(self) -> bool:
        """Whether anything but the network is measured."""
        return bool(set(self.stages) - {"network"})


def _check_names(kind: str, names: list[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"There is no {kind} {name!r}: use one of {', '.join(known)}.")
