# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The models to measure, and the engines that run them."""

import copy
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoImageProcessor,
    PreTrainedModel,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
    pipeline,
)
from transformers.image_processing_utils import BaseImageProcessor

from ..engines.engine import Engine
from ..engines.export_settings import is_export
from ..engines.exported_engine import openvino_core
from ..engines.torch_engine import PlainEngine
from ..export.choosing import make_engine
from ..inference import Segmenter
from ..model.configuration_cgrseg import PRESETS, CGRSegConfig
from ..model.image_processing_cgrseg import CGRSegImageProcessor
from ..model.modeling_cgrseg import CGRSegForSemanticSegmentation
from ..pretrained.loading import load_model
from ..pretrained.locating import SHIPPED, locate_model
from ..utils.optional import import_optional
from .settings import CONFIGURATION_NAMES, SEGFORMER_NAMES, BenchmarkSettings

# Sizes of SegFormer (arXiv 2105.15203): depths, hidden sizes, and the decoder's hidden size.
_SEGFORMER_SIZES = (
    ([2, 2, 2, 2], [32, 64, 160, 256], 256),
    ([2, 2, 2, 2], [64, 128, 320, 512], 256),
    ([3, 4, 6, 3], [64, 128, 320, 512], 768),
)
_SEGFORMERS = dict(zip(SEGFORMER_NAMES, _SEGFORMER_SIZES, strict=True))


@dataclass
class Source:
    """A model to measure: a model in float32 and evaluation mode, or the folder of an export."""

    name: str
    image_processor: BaseImageProcessor
    model: PreTrainedModel | None = None
    export: Path | None = None
    configuration: str | None = None  # of a model with random weights

    def image_processor_for(self, size: tuple[int, int]) -> BaseImageProcessor:
        """Its image processor, set to resize photos to this height and width."""
        image_processor = copy.deepcopy(self.image_processor)
        image_processor.size = {"height": size[0], "width": size[1]}
        return image_processor


def load_source(name: str, num_labels: int = 150) -> Source:
    """
    Load a model by its name.

    Args:
        name (`str`):
            A preset of CGRSeg (`xs`, `t`, `b`, `l`), `segformer-b0` to `segformer-b2`, both with random weights;
            `shipped`; a folder that `cgrseg export` wrote; or folder or Hub id of a semantic segmentation model.
        num_labels (`int`, *optional*, defaults to 150):
            Classes of a model with random weights.

    Raises:
        ValueError, OSError: If there is none of that name.
    """
    if name in PRESETS:
        # Equal weights every time, so that the exports in the cache are found again.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(name, num_labels=num_labels))
        return Source(f"CGRSeg-{name.upper()}", CGRSegImageProcessor(), model.eval(), configuration=name)
    if name in _SEGFORMERS:
        depths, hidden_sizes, decoder_hidden_size = _SEGFORMERS[name]
        config = SegformerConfig(
            depths=depths, hidden_sizes=hidden_sizes, decoder_hidden_size=decoder_hidden_size, num_labels=num_labels
        )
        title = name.replace("segformer-b", "SegFormer-B")
        model = SegformerForSemanticSegmentation(config)
        return Source(title, SegformerImageProcessor(), model.eval(), configuration=name)
    location = locate_model(name, CONFIGURATION_NAMES)
    folder = Path(location)
    image_processor = AutoImageProcessor.from_pretrained(location)
    if is_export(folder):
        return Source(folder.resolve().name, image_processor, export=folder)
    model = load_model(location, dtype=torch.float32)
    title = folder.resolve().name if name == SHIPPED or Path(name).expanduser().is_dir() else name
    return Source(title, image_processor, model.eval())


@dataclass
class Contender:
    """A model with the engine that runs it, in its inference form, plain, or as an export made before."""

    source: Source
    engine: Engine
    form: str

    @property
    def name(self) -> str:
        """Its name in tables."""
        precision = str(self.engine.dtype).removeprefix("torch.")
        return f"{self.source.name}, {self.engine.name}, {self.form}, {precision}"

    def make_whole_path(self, image_processor: BaseImageProcessor) -> Callable[[Path], Any] | None:
        """Make the call from a photo's file to its label map: the Segmenter, or transformers' pipeline if plain."""
        if self.form != "plain":
            return Segmenter(self.engine, image_processor)
        if not isinstance(self.engine, PlainEngine) or self.engine.name == "compile":
            return None  # the pipeline runs models of PyTorch only
        segment = pipeline(
            "image-segmentation",
            model=self.engine.model,
            image_processor=image_processor,
            device=self.engine.device,
            dtype=self.engine.dtype,
        )
        return lambda photo: segment(str(photo), subtask="semantic")


def make_contenders(
    sources: Sequence[Source],
    settings: BenchmarkSettings,
    device: torch.device,
    num_threads: int,
    left_out: list[str],
) -> list[Contender]:
    """
    Make every combination of model, engine, form and precision that can be measured, and list what cannot.

    Models of others have the plain form only, exported folders their own engine and precision.

    Raises:
        ValueError: If nothing is left.
        ImportError: If the package of an engine is not installed.
    """
    contenders = []
    for source in sources:
        for name, precision, form in _combinations(source, settings):
            try:
                engine = _make_engine(source, name, form, precision, device, num_threads, settings.trust_remote_code)
            except ValueError as error:
                left_out.append(f"Left out: {source.name}, {name}, {form}, {precision}: {error}")
                continue
            contenders.append(Contender(source, engine, form))
    if not contenders:
        raise ValueError("Nothing is left to measure: choose other engines, forms or precisions.")
    return contenders


def _combinations(source: Source, settings: BenchmarkSettings) -> Iterable[tuple[str, str | None, str]]:
    if source.export is not None:
        return [("auto", None, "export")]
    forms = settings.forms if hasattr(source.model, "optimize_for_inference") else ["plain"]
    return itertools.product(settings.engines, settings.precisions, forms)


def _make_engine(
    source: Source,
    name: str,
    form: str,
    precision: str | None,
    device: torch.device,
    num_threads: int,
    trust_remote_code: bool,
) -> Engine:
    if form == "export":
        place = "cpu" if device.type == "cpu" else None
        return make_engine(source.export, "auto", place, None, num_threads, trust_remote_code=trust_remote_code)
    runs_in_torch = name in ("torch", "compile")
    dtype = getattr(torch, precision)
    if form == "inference":
        return make_engine(source.model, name, device if runs_in_torch else None, dtype, num_threads)
    if runs_in_torch:
        return PlainEngine(copy.deepcopy(source.model).to(device, dtype), compiled=name == "compile")
    return PlainExport(source.model, name, dtype, num_threads)


class PlainExport(Engine):
    """
    The file that `torch.onnx.export` writes for a model, on a CPU with ONNX Runtime or OpenVINO.

    Each shape of the input has a file of its own: no engine is slower with a fixed shape. The arithmetic is float32, or
    bfloat16 with OpenVINO.
    """

    device = torch.device("cpu")

    def __init__(self, model: PreTrainedModel, engine: str, dtype: torch.dtype, num_threads: int):
        if dtype != torch.float32 and (engine, dtype) != ("openvino", torch.bfloat16):
            raise ValueError(f"A plain export does not run in {str(dtype).removeprefix('torch.')} on {engine}.")
        for package in ("onnx", "onnxscript", engine):
            import_optional(package, "export", "Exported models")
        self.name, self.dtype, self.config = engine, dtype, model.config
        self._logits = _Logits(model).eval()
        self._num_threads = num_threads
        self._folder = tempfile.TemporaryDirectory(prefix="cgrseg-benchmark-")
        self._sessions: dict[torch.Size, Callable[[torch.Tensor], torch.Tensor]] = {}

    def export(self, shape: torch.Size) -> Path:
        """Write the file for `pixel_values` of this shape, unless it exists."""
        file = Path(self._folder.name) / f"{'x'.join(map(str, shape))}.onnx"
        if not file.is_file():
            torch.onnx.export(self._logits, (torch.zeros(shape),), file, verbose=False)
        return file

    def __call__(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """See [`Engine`]."""
        if pixel_values.shape not in self._sessions:
            load = self._load_in_openvino if self.name == "openvino" else self._load_in_onnxruntime
            self._sessions[pixel_values.shape] = load(self.export(pixel_values.shape))
        return self._sessions[pixel_values.shape](pixel_values)

    def _load_in_onnxruntime(self, file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._num_threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda pixel_values: torch.from_numpy(session.run(None, {name: pixel_values.numpy()})[0])

    def _load_in_openvino(self, file: Path) -> Callable[[torch.Tensor], torch.Tensor]:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self._num_threads,
            # By default OpenVINO computes in bfloat16 where the processor can.
            "INFERENCE_PRECISION_HINT": "bf16" if self.dtype == torch.bfloat16 else "f32",
        }
        network = openvino_core().compile_model(file, "CPU", settings)
        return lambda pixel_values: torch.from_numpy(network(pixel_values.numpy(), share_inputs=True)[0])


class _Logits(nn.Module):
    """A model as a function from pixels to logits."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values).logits
