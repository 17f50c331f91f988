# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Export a model to a folder that other engines run, and prove that it is still the model."""

import copy
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoImageProcessor, PreTrainedConfig, PreTrainedModel

from ..engines.export_settings import DEFAULT_OPSET, ExportSettings, write_settings
from ..engines.exported_engine import open_export
from ..model.configuration_cgrseg import CGRSegConfig
from ..model.geometry_cgrseg import LOGITS_STRIDE
from ..model.image_processing_cgrseg import CGRSegImageProcessorPil
from ..model.image_reading_cgrseg import read_image, to_photo
from ..model.post_processing_cgrseg import label_map_dtype
from ..pretrained.loading import load_model
from ..utils.provenance import find_versions
from .checks import check_output, find_photos, locate_source
from .onnx_file import write_onnx
from .openvino_file import write_openvino
from .parity import ParityReport, compare
from .parts import LabelMap, Network, Parts, PicturePreparation, find_num_channels
from .torch_file import write_torch

_WRITERS = {"onnx": write_onnx, "openvino": write_openvino, "torch": write_torch}
# Photos that the comparison with the model is made on; calibration may use more.
_PHOTOS_COMPARED = 8


@dataclass(frozen=True)
class ExportReport:
    """
    What was exported.

    Args:
        folder (`Path`): Where it is.
        settings ([`ExportSettings`]): What it is.
        parity ([`ParityReport`]): How it compares with the PyTorch model.
    """

    folder: Path
    settings: ExportSettings
    parity: ParityReport


def export_model(
    source: PreTrainedModel | str | os.PathLike,
    output: str | os.PathLike,
    format: str = "onnx",
    precision: str = "float32",
    *,
    include_preprocessing: bool = False,
    include_argmax: bool = False,
    size: tuple[int, int] | None = None,
    calibration: str | os.PathLike | Sequence[Any] | None = None,
    max_calibration: int = 128,
    opset: int = DEFAULT_OPSET,
    image_processor: Any = None,
    overwrite: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> ExportReport:
    """
    Export a model.

    The folder holds the file or files of the format, config.json, preprocessor_config.json, and export.json: what the
    graph takes and gives, and how it compares with the model. It is made under another name and appears, whole, only
    after that comparison.

    Args:
        source (`PreTrainedModel`, `str` or `os.PathLike`):
            A model for semantic segmentation, or its folder or Hub id.
        output (`str` or `os.PathLike`):
            The folder to make.
        format (`str`, *optional*, defaults to `"onnx"`):
            `"onnx"`, `"openvino"` or `"torch"` (a program of torch.export).
        precision (`str`, *optional*, defaults to `"float32"`):
            `"float32"`; `"float16"`: weights of half the size, computed so where the processor can; `"bfloat16"`, for
            OpenVINO and PyTorch: computed so where the processor can; `"int8"`, for ONNX and OpenVINO: convolutions
            quantised after looking at `calibration`.
        include_preprocessing (`bool`, *optional*, defaults to `False`):
            Put resizing and normalising in the graph: it takes `image`, uint8 `(batch, height, width, 3)` RGB.
            Otherwise it takes `pixel_values` `(batch, channels, height, width)`, float32, normalised.
        include_argmax (`bool`, *optional*, defaults to `False`):
            Put the best class of every pixel in the graph: it gives `labels` at the input's size
            `(batch, height, width)`, uint8, or int32 for over 256 classes. Otherwise it gives `logits`
            `(batch, num_labels, ceil(height / 8), ceil(width / 8))`, float32.
        size (`tuple[int, int]`, *optional*):
            Height and width of the only input that the graph is to take, one at a time. By default batch, height and
            width are free, from 32 pixels on; for `"torch"` from 65 on, since its exporter takes lengths that can come
            down to a single position for fixed ones.
        calibration (`str`, `os.PathLike` or `Sequence`, *optional*):
            Photos, for int8 a must: a folder, or a list of paths, PIL images and arrays. The comparison with the model
            looks at the first few; without any, at made-up pictures.
        max_calibration (`int`, *optional*, defaults to 128):
            Use so many of them, spread evenly.
        opset (`int`, *optional*, defaults to 20):
            Version of ONNX's operators.
        image_processor (`BaseImageProcessor`, *optional*):
            By default the one beside the model, or for a model in memory CGRSeg's with its defaults
            (for other than three channels, with means and deviations of 0.5).
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether to replace an earlier export in the same folder.
        on_step (`Callable`, *optional*):
            Called with a line of text on what comes next, each time it may take many seconds.

    Returns:
        [`ExportReport`]: where it is, and how it compares with the model.

    Raises:
        ParityError: If the exported file computes something else than the model.
        ValueError: If settings do not go together, or there is something else at `output`.
        ImportError: If a package is missing.
    """
    settings = ExportSettings(format, precision, include_preprocessing, include_argmax, size, opset)
    on_step = on_step or (lambda text: None)
    output = Path(output)
    check_output(output, overwrite)
    photos = find_photos(calibration, max_calibration, settings)
    model, image_processor = _load(source, image_processor)
    num_channels = find_num_channels(model.config)
    if photos and num_channels != 3:
        raise ValueError(f"calibration holds photos of three channels, and the model takes {num_channels}.")
    if settings.size is not None and not settings.include_preprocessing:
        image_processor = _bring_to_size(image_processor, settings.size)
    parts = _make_parts(model, image_processor, settings)

    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as temporary:
        folder = Path(temporary) / output.name
        folder.mkdir()
        shown = tqdm(photos, desc="Calibrating", unit="photo", leave=False, disable=None)
        pixels = (_prepare(_read_photo(photo), image_processor) for photo in shown)
        quantising = f", and quantising it on {len(photos)} photos" if settings.precision == "int8" else ""
        on_step(f"Converting the model to {settings.format}{quantising}: this can take a minute or more")
        _WRITERS[settings.format](parts, settings, folder / settings.file, pixels)
        model.config.save_pretrained(folder)
        image_processor.save_pretrained(folder)
        write_settings(folder, settings)
        on_step("Comparing the file with the model in PyTorch")
        # By number, since export.json may go to others, whom the photos' names are no business of.
        compared = [
            (f"calibration photo {number}", _read_photo(photo))
            for number, photo in enumerate(photos[:_PHOTOS_COMPARED], start=1)
        ]
        engine = open_export(folder, device="cpu", trust_remote_code=True, needs_logits=False)
        parity = compare(engine, model, image_processor, compared)
        parity.check()
        graph = _describe_graph(model.config, image_processor, settings)
        write_settings(folder, settings, **graph, parity=_describe(parity), versions=_find_versions(settings))
        if overwrite and output.exists():
            shutil.rmtree(output)
        folder.rename(output)
    return ExportReport(output, settings, parity)


def _load(source: PreTrainedModel | str | os.PathLike, image_processor: Any) -> tuple[PreTrainedModel, Any]:
    """The model in evaluation mode and float32 on the CPU, and its image processor."""
    if isinstance(source, PreTrainedModel):
        model = copy.deepcopy(source).float().cpu().eval()  # the caller's stays as it is
        return model, image_processor or _make_image_processor(find_num_channels(model.config))
    source = locate_source(source)
    model = load_model(source, dtype=torch.float32).eval()
    return model, image_processor or AutoImageProcessor.from_pretrained(source)


def _make_image_processor(num_channels: int) -> CGRSegImageProcessorPil:
    # ImageNet's means and deviations are those of three channels.
    settings = {} if num_channels == 3 else {name: [0.5] * num_channels for name in ("image_mean", "image_std")}
    return CGRSegImageProcessorPil(**settings)


def _bring_to_size(image_processor: Any, size: tuple[int, int]) -> Any:
    """An image processor whose pixels fit a file that takes one size alone; the network pads by itself."""
    image_processor = copy.deepcopy(image_processor)
    image_processor.size = {"height": size[0], "width": size[1]}
    image_processor.do_pad = False
    return image_processor


def _describe_graph(config: PreTrainedConfig, image_processor: Any, settings: ExportSettings) -> dict[str, Any]:
    """For those who run the file by itself: what each number that goes in and comes out means."""
    batch, height, width = (1, *settings.size) if settings.size else ("batch", "height", "width")
    num_channels, num_labels = find_num_channels(config), config.num_labels
    order = {"channels": "RGB"} if num_channels == 3 else {}
    if settings.include_preprocessing:
        takes = {"type": "uint8", "shape": [batch, height, width, num_channels], **order, "values": "0 to 255"}
    else:
        takes = {
            "type": "float32",
            "shape": [batch, num_channels, height, width],
            **order,
            "values": "(pixel * rescale_factor - mean) / std, pixels from 0 to 255, resized to size",
            "rescale_factor": image_processor.rescale_factor,
            "mean": list(image_processor.image_mean),
            "std": list(image_processor.image_std),
            "size": dict(image_processor.size),
        }
    if settings.include_argmax:
        label_type = str(label_map_dtype(num_labels)).removeprefix("torch.")
        gives = {"type": label_type, "shape": [batch, height, width], "values": "ids of classes"}
    else:
        stride = {"stride": LOGITS_STRIDE} if config.model_type == CGRSegConfig.model_type else {}
        gives = {
            "type": "float32",
            "shape": [batch, num_labels, "rows", "columns"],
            **stride,
            "values": "scores of classes; for labels, resize them bilinearly (align_corners=False), by the stride to "
            "the input's size or on to the picture's, and take the class with the largest",
        }
    classes = {str(class_id): name for class_id, name in sorted(config.id2label.items())}
    return {"takes": takes, "gives": gives, "classes": classes}


def _make_parts(model: PreTrainedModel, image_processor: Any, settings: ExportSettings) -> Parts:
    config = model.config
    if settings.include_argmax and config.model_type != CGRSegConfig.model_type:
        raise ValueError(
            f"include_argmax knows the geometry of CGRSeg's logits alone, and this is a {config.model_type}: export "
            "logits."
        )
    form = model.optimize_for_inference() if hasattr(model, "optimize_for_inference") else model
    # OpenVINO's files keep their weights in float32 or compressed, and are computed in the type that the engine is
    # asked for; the others are computed in the type that they are written in.
    if settings.format != "openvino" and settings.precision in ("float16", "bfloat16"):
        form = form.to(getattr(torch, settings.precision))
    return Parts(
        network=Network(form).eval(),
        preparation=PicturePreparation(image_processor).eval() if settings.include_preprocessing else None,
        label_map=LabelMap().eval() if settings.include_argmax else None,
        num_channels=find_num_channels(config),
        num_labels=config.num_labels,
    )


def _read_photo(photo: Any) -> np.ndarray:
    """A photo as a person sees it, (height, width, 3), uint8."""
    return np.asarray(to_photo(read_image(photo)))


def _prepare(photo: np.ndarray, image_processor: Any) -> np.ndarray:
    """The network's input for a photo, (1, channels, height, width)."""
    return np.asarray(image_processor([photo], return_tensors="np", do_pad=False)["pixel_values"])


def _describe(parity: ParityReport) -> dict[str, Any]:
    summary = {"logit_difference": parity.logit_difference, "equal_labels": parity.equal_labels}
    return {**summary, **asdict(parity)}


def _find_versions(settings: ExportSettings) -> dict[str, str]:
    packages = {"onnx": ["onnx", "onnxscript", "onnxruntime"], "openvino": ["openvino", "nncf"], "torch": []}
    return find_versions("torch", "transformers", *packages[settings.format])
