# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""A model over a data set: every image once, for any number of processes, to one confusion matrix."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import datasets
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..data import SegmentationData
from ..data.loading import Example
from ..data.workers import prepare_worker, read_ahead
from .cross_check import CrossCheck
from .metric import MeanIoU, count_pixels, metrics_from_confusion_matrix
from .prediction import DEFAULT_PROTOCOL, EvaluationProtocol, find_device_and_type, predict_label_map


@dataclass
class WorstImage:
    """
    An image that went badly, with all that is needed to look at it.

    Args:
        name (`str`): The image's name.
        position (`int`): Its row in the data.
        mean_iou (`float`): Mean over the classes that its truth has, 0 to 1.
        image (`PIL.Image.Image`): RGB.
        label_map (`numpy.ndarray` of shape `(height, width)`): The truth.
        prediction (`numpy.ndarray` of shape `(height, width)`): What the model said.
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
    What an evaluation found; the same in every process.

    Args:
        confusion_matrix (`numpy.ndarray` of shape `(num_labels, num_labels)`, int64):
            Pixels by true class (rows) and predicted class (columns).
        metrics (`dict[str, Any]`):
            See `metrics_from_confusion_matrix`.
        id2label (`dict[int, str]`):
            Names of the classes.
        num_images (`int`):
            Images that were counted.
        seconds (`float`):
            Wall time from the first image to the last, of the process that made this.
        protocol ([`EvaluationProtocol`]):
            How the images were predicted.
        worst (`list[WorstImage]`):
            The worst images, the worst first.
        palette (`list[tuple[int, int, int]]`, *optional*):
            Colours of the classes, where the data set has its own.
        ignore_index (`int`, *optional*, defaults to 255):
            The label that did not count.
        data (`dict[str, str | None]`):
            What the data are, which split, and how their ids were mapped, for people.
        device (`str`):
            Where the model ran.
        precision (`str`):
            The type of the network's arithmetic.
        cross_check (`dict`, *optional*):
            What evaluate's own metric said on the same maps, see [`CrossCheck`].
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
    cross_check: dict[str, Any] | None = None


def evaluate_model(
    model: nn.Module,
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
    check_with: str | None = None,
) -> EvaluationResult:
    """
    Score a model on a split, one image at a time at its own size.

    Of several processes, each takes every so many rows, none twice and none left out, so that their number does not
    change the result.

    Args:
        model (`torch.nn.Module`):
            Any model for semantic segmentation of transformers with as many classes as the data. It runs in evaluation
            mode; each of its modules gets its former mode back.
        image_processor (`BaseImageProcessor`):
            The model's image processor.
        data ([`SegmentationData`]):
            Images with label maps.
        protocol ([`EvaluationProtocol`], *optional*):
            By default one pass over each whole image.
        process_index, num_processes (`int`, *optional*, default to 0 and 1):
            Which part of the data this process takes, and of how many.
        reduce (`Callable`, *optional*):
            Sums an int64 tensor over all processes and gives the sum to each; needed for several processes.
        limit (`int`, *optional*):
            Take only so many images, over all processes, from the start of the data.
        autocast (`torch.dtype`, *optional*):
            Run the network in this type.
        num_workers (`int`, *optional*, defaults to 0):
            Processes that read images ahead; 0 reads them in this one.
        keep_worst (`int`, *optional*, defaults to 0):
            How many of the worst images to keep. Several processes show each other theirs through
            `torch.distributed`.
        progress (`bool`, *optional*, defaults to `True`):
            Whether to show a progress bar.
        check_with (`str`, *optional*):
            What `evaluate.load` takes, such as "mean_iou" or the folder of a copy: its numbers are computed on the
            same maps too.

    Raises:
        ValueError: If model and data differ in their number of classes, there is no image, a file cannot be read, or
            `check_with` finds a difference.
        ChildProcessError: If a process that reads images ends before its time.
    """
    if isinstance(model, DistributedDataParallel):
        model = model.module  # its wrapper waits for the other processes, which may have fewer images
    _check_arguments(model, data, num_processes, reduce, limit)
    if check_with and num_processes > 1:
        raise ValueError("check_with compares what one process has seen: use it with one process.")
    tally = _Tally(data, process_index, num_processes, keep_worst, check_with)
    examples = _read_examples(data, process_index, num_processes, limit, num_workers)
    total = _count_images(data, process_index, num_processes, limit)
    start = time.perf_counter()
    with _evaluation_mode(model):
        for example in tqdm(examples, "Evaluating", total, unit="image", disable=not progress, leave=False):
            tally.add(example, predict_label_map(model, example.image, image_processor, protocol, autocast=autocast))
    seconds = time.perf_counter() - start

    confusion_matrix, num_images, worst = tally.metric.confusion_matrix, tally.num_images, tally.worst
    if num_processes > 1:
        confusion_matrix, num_images = _sum_over_processes(confusion_matrix, num_images, reduce)
        worst = _choose_worst(_gather(worst), keep_worst) if keep_worst else []
    if num_images == 0:
        raise ValueError(f"There is no image to evaluate on in {data.description}.")
    device, dtype = find_device_and_type(model)
    arithmetic = autocast or getattr(getattr(model, "engine", None), "dtype", dtype)
    return EvaluationResult(
        confusion_matrix=confusion_matrix,
        metrics=metrics_from_confusion_matrix(confusion_matrix),
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
        device=_describe_device(device),
        precision=str(arithmetic).removeprefix("torch."),
        cross_check=tally.check.finish() if tally.check else None,
    )


class _Tally:
    """What is known of the images that this process has seen."""

    def __init__(
        self, data: SegmentationData, process_index: int, num_processes: int, keep_worst: int, check_with: str | None
    ):
        self.metric = MeanIoU(data.num_labels, data.ignore_index)
        self.check = CrossCheck(check_with, data.num_labels, data.ignore_index) if check_with else None
        self.positions = count(process_index, num_processes)
        self.keep_worst = keep_worst
        self.num_images = 0
        self.worst: list[WorstImage] = []

    def add(self, example: Example, prediction: torch.Tensor) -> None:
        """Count one image, and keep it if it is among the worst."""
        matrix = count_pixels(prediction, example.label_map, self.metric.num_labels, self.metric.ignore_index)
        self.metric.add_confusion_matrix(matrix)
        self.num_images += 1
        position = next(self.positions)
        if self.check is not None:
            self.check.add(prediction.cpu().numpy(), example.label_map, matrix)
        if self.keep_worst and matrix.any():
            image = _describe_image(example, position, prediction, matrix)
            self.worst = _choose_worst([*self.worst, image], self.keep_worst)


class _Examples(Dataset):
    """Decoded pairs by row number, or by the row itself where data are streamed."""

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
    """The pairs that this process takes, in their order."""
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
    """How many images this process takes; None where that is not known beforehand."""
    if isinstance(data.rows, datasets.IterableDataset):
        return None if limit is None else len(range(process_index, limit, num_processes))
    return len(range(len(data.rows))[process_index:limit:num_processes])


def _check_arguments(
    model: nn.Module, data: SegmentationData, num_processes: int, reduce: Callable | None, limit: int | None
) -> None:
    num_labels = getattr(getattr(model, "config", None), "num_labels", data.num_labels)
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


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards for each module the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


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


def _sum_over_processes(
    matrix: np.ndarray, num_images: int, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[np.ndarray, int]:
    numbers = torch.from_numpy(np.append(matrix, num_images))
    numbers = reduce(numbers).cpu().numpy()
    return numbers[:-1].reshape(matrix.shape), int(numbers[-1])


def _gather(images: list[WorstImage]) -> list[WorstImage]:
    """Those of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return images
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, images)
    return [image for part in gathered for image in part]


def _describe_device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
