# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Score a model on a data set: every image once, over any number of processes, into one confusion matrix."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate.utils import extract_model_from_parallel, gather_object
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..data import SegmentationData
from ..data.loading import Example
from ..data.workers import prepare_worker, read_ahead
from ..engines import Engine, PlainEngine
from ..export.choosing import make_engine
from ..utils.modes import evaluation_mode
from .metric import count_pixels, metrics_from_confusion_matrix
from .prediction import DEFAULT_PROTOCOL, EvaluationProtocol, predict_label_map


@dataclass
class WorstImage:
    """
    An image that the model segmented badly.

    Args:
        name (`str`): The image's name.
        position (`int`): Its row in the data.
        mean_iou (`float`): Mean over the classes that its truth has, 0 to 1.
        image (`PIL.Image.Image`): RGB.
        label_map (`numpy.ndarray` of shape `(height, width)`): The true classes.
        prediction (`numpy.ndarray` of shape `(height, width)`): The predicted classes.
    """

    name: str
    position: int
    mean_iou: float
    image: Image.Image = field(repr=False)
    label_map: np.ndarray = field(repr=False)
    prediction: np.ndarray = field(repr=False)


@dataclass
class EvaluationResult:
    """
    Scores of a model on a split, the same in every process.

    Args:
        confusion_matrix (`numpy.ndarray` of shape `(num_labels, num_labels)`, int64):
            Pixels by true class (rows) and predicted class (columns).
        metrics (`dict[str, Any]`):
            See `metrics_from_confusion_matrix`.
        id2label (`dict[int, str]`):
            Names of the classes.
        num_images (`int`):
            Number of images.
        seconds (`float`):
            Wall time from the first image to the last, in this process.
        protocol ([`EvaluationProtocol`]):
            Steps by which the images were predicted.
        worst (`list[WorstImage]`):
            The worst images, the worst first.
        palette (`list[tuple[int, int, int]]`, *optional*):
            Colours of the classes, where the data set has its own.
        ignore_index (`int`, *optional*, defaults to 255):
            The label that did not count.
        data (`dict[str, str | None]`):
            Descriptions of the data, the split, and the mapping of ids.
        device (`str`):
            Device of the engine.
        precision (`str`):
            Type of the network's arithmetic.
    """

    confusion_matrix: np.ndarray
    metrics: dict[str, Any]
    id2label: dict[int, str]
    num_images: int
    seconds: float
    protocol: EvaluationProtocol
    worst: list[WorstImage] = field(default_factory=list)
    palette: list[tuple[int, int, int]] | None = None
    ignore_index: int = 255
    data: dict[str, str | None] = field(default_factory=dict)
    device: str = "cpu"
    precision: str = "float32"


def evaluate_model(
    model: nn.Module | Engine | str | Path,
    image_processor: Any,
    data: SegmentationData,
    protocol: EvaluationProtocol = DEFAULT_PROTOCOL,
    *,
    process_index: int = 0,
    num_processes: int = 1,
    reduce: Callable[[torch.Tensor], torch.Tensor] | None = None,
    limit: int | None = None,
    autocast: torch.dtype | None = None,
    num_workers: int = 0,
    keep_worst: int = 0,
    progress: bool = True,
) -> EvaluationResult:
    """
    Score a model on a split, one image at a time at its own size.

    Each of several processes reads every so many rows, none twice and none left out, so that the number of processes
    does not change the result.

    Args:
        model (`torch.nn.Module`, [`Engine`], `str` or `Path`):
            Any model for semantic segmentation of transformers with as many classes as the data, an engine, or a folder
            that `cgrseg export` wrote. A model runs in evaluation mode; afterwards each of its modules is in its former
            mode.
        image_processor (`BaseImageProcessor`):
            The model's image processor.
        data ([`SegmentationData`]):
            Images with label maps.
        protocol ([`EvaluationProtocol`], *optional*):
            By default one pass over each whole image.
        process_index, num_processes (`int`, *optional*, default to 0 and 1):
            Which part of the data this process reads, and the number of parts.
        reduce (`Callable`, *optional*):
            Sums an int64 tensor over all processes and returns the sum to each; needed for several processes.
        limit (`int`, *optional*):
            Evaluate only so many images, over all processes, from the start of the data.
        autocast (`torch.dtype`, *optional*):
            Run a model under `torch.autocast` in this type.
        num_workers (`int`, *optional*, defaults to 0):
            Processes that read images ahead; 0 reads them in this one.
        keep_worst (`int`, *optional*, defaults to 0):
            Number of the worst images to keep.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.

    Raises:
        ValueError: If model and data differ in their number of classes, there is no image, or a file cannot be read.
        ChildProcessError: If a process that reads images ends before its time.
    """
    if autocast is not None and not isinstance(model, nn.Module):
        raise ValueError(f"autocast={autocast} is for models: an engine or export has its own type of arithmetic.")
    if isinstance(model, nn.Module):
        # A wrapper for several processes waits for the others, which may have fewer images.
        model = extract_model_from_parallel(model)
        engine, mode = PlainEngine(model, autocast), evaluation_mode(model)
    else:
        engine, mode = model if isinstance(model, Engine) else make_engine(model), nullcontext()
    _check_arguments(engine, data, num_processes, reduce, limit)
    matrix = np.zeros((data.num_labels, data.num_labels), dtype=np.int64)
    num_images, worst = 0, []
    examples = _read_examples(data, process_index, num_processes, limit, num_workers)
    total = _count_images(data, process_index, num_processes, limit)
    start = time.perf_counter()
    with mode:
        for example in tqdm(examples, "Evaluating", total, unit="image", disable=not progress, leave=False):
            prediction = predict_label_map(engine, example.image, image_processor, protocol)
            of_image = count_pixels(prediction, example.label_map, data.num_labels, data.ignore_index)
            if keep_worst and of_image.any():
                position = process_index + num_images * num_processes
                worst = _choose_worst([*worst, _describe_image(example, position, prediction, of_image)], keep_worst)
            matrix += of_image
            num_images += 1
    seconds = time.perf_counter() - start

    if num_processes > 1:
        numbers = reduce(torch.from_numpy(np.append(matrix, num_images))).cpu().numpy()
        matrix, num_images = numbers[:-1].reshape(matrix.shape), int(numbers[-1])
        worst = _choose_worst(gather_object(worst), keep_worst) if keep_worst else []
    if num_images == 0:
        raise ValueError(f"There is no image to evaluate on in {data.description}.")
    return EvaluationResult(
        confusion_matrix=matrix,
        metrics=metrics_from_confusion_matrix(matrix),
        id2label=dict(data.id2label),
        num_images=num_images,
        seconds=seconds,
        protocol=protocol,
        worst=worst,
        palette=data.palette,
        ignore_index=data.ignore_index,
        data={
            "description": data.description,
            "split": data.split,
            "label_mapping": data.label_mapping.describe(),
        },
        device=torch.cuda.get_device_name(engine.device) if engine.device.type == "cuda" else str(engine.device),
        precision=str(engine.dtype).removeprefix("torch."),
    )


class _Examples(Dataset):
    """Decoded pairs by row number, or by the row itself for streamed data."""

    def __init__(self, data: SegmentationData):
        self.data = data

    def __getitem__(self, key: int | Mapping[str, Any]) -> Example | Exception:
        try:
            return self.data.read(self.data.rows[key] if isinstance(key, int) else key)
        except (ValueError, OSError) as error:
            return error  # raised by the reader: a worker's own error would bury its message in tracebacks


def _read_examples(
    data: SegmentationData, process_index: int, num_processes: int, limit: int | None, num_workers: int
) -> Iterator[Example]:
    """Read the pairs of this process in their order."""
    is_streamed = isinstance(data.rows, datasets.IterableDataset)
    keys: Iterable[Any] = data.rows if is_streamed else range(len(data.rows))
    loader = DataLoader(
        _Examples(data),
        sampler=islice(keys, process_index, limit, num_processes),
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),  # by default starting a loader draws from the generator that dropout uses
        collate_fn=_as_it_is,
    )
    for example in read_ahead(loader):
        if isinstance(example, Exception):
            raise example
        yield example


def _as_it_is(example: Any) -> Any:
    return example


def _count_images(data: SegmentationData, process_index: int, num_processes: int, limit: int | None) -> int | None:
    """Number of images of this process, or None if it is unknown."""
    if isinstance(data.rows, datasets.IterableDataset):
        return None if limit is None else len(range(process_index, limit, num_processes))
    return len(range(len(data.rows))[process_index:limit:num_processes])


def _check_arguments(
    engine: Engine, data: SegmentationData, num_processes: int, reduce: Callable | None, limit: int | None
) -> None:
    num_labels = getattr(engine.config, "num_labels", data.num_labels)
    if num_labels != data.num_labels:
        raise ValueError(
            f"The model has {num_labels} classes, but the data {data.num_labels}: evaluate on the data set that the "
            "model was trained on, or check how its ids are mapped (--label-ids, --reduce-labels) and which names it "
            "has (--class-names)."
        )
    if num_processes > 1 and reduce is None:
        raise ValueError(
            f"num_processes={num_processes} needs reduce, which sums over them: for instance "
            'lambda tensor: accelerator.reduce(tensor.to(accelerator.device), "sum").'
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: take at least one image.")


def _describe_image(example: Example, position: int, prediction: torch.Tensor, matrix: np.ndarray) -> WorstImage:
    present = matrix.sum(axis=1) > 0
    iou = metrics_from_confusion_matrix(matrix)["per_category_iou"][present]
    return WorstImage(
        name=example.name,
        position=position,
        mean_iou=float(iou.mean()),
        image=example.image,
        label_map=example.label_map,
        prediction=prediction.cpu().numpy(),
    )


def _choose_worst(images: list[WorstImage], number: int) -> list[WorstImage]:
    return sorted(images, key=lambda image: (image.mean_iou, image.position))[:number]
