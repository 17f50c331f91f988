# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Does an exported file compute what the PyTorch model computes?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import PreTrainedModel

from ..engines.export_settings import ExportSettings
from ..engines.exported_engine import ExportedEngine
from ..engines.torch_engine import PlainEngine
from ..model.geometry_cgrseg import image_size_of_input
from ..model.post_processing_cgrseg import label_map_from_logits
from .parts import find_num_channels

# Heights and widths of the pictures that every file of any size is tried on: odd ones, tall ones and wide ones.
SIZES = ((65, 96), (97, 131), (224, 320), (353, 255), (512, 512))


@dataclass(frozen=True)
class Tolerance:
    """
    How far an export may be from the model.

    Args:
        logit_difference (`float`): Largest difference of a logit, as a share of the largest logit.
        equal_labels (`float`): Smallest share of equal labels over all pictures.
    """

    logit_difference: float
    equal_labels: float


TOLERANCES = {
    "float32": Tolerance(logit_difference=1e-3, equal_labels=0.999),
    "float16": Tolerance(logit_difference=0.05, equal_labels=0.99),
    "bfloat16": Tolerance(logit_difference=0.25, equal_labels=0.95),
    "int8": Tolerance(logit_difference=1.0, equal_labels=0.85),
}
# Resized colours that lie halfway between two whole numbers, as many do where a side is divided by 3, come out as
# either.
RESIZING_TOLERANCE = Tolerance(logit_difference=0.02, equal_labels=0.99)


class ParityError(ValueError):
    """An exported file computes something else than the model."""


@dataclass(frozen=True)
class Comparison:
    """
    What came of one picture.

    Args:
        picture (`str`): Its name or kind.
        size (`tuple[int, int]`): Height and width of the file's input.
        logit_difference (`float`, *optional*): Largest difference of a logit; None where the output is a label map.
        largest_logit (`float`): Largest absolute logit of the model.
        equal_labels (`float`): Share of positions, or of pixels of the label map, with the same best class.
    """

    picture: str
    size: tuple[int, int]
    logit_difference: float | None
    largest_logit: float
    equal_labels: float


@dataclass(frozen=True)
class ParityReport:
    """
    How an exported file compares with the PyTorch model in float32.

    Args:
        tolerance ([`Tolerance`]): What was asked for.
        comparisons (`list[Comparison]`): One for each picture.
    """

    tolerance: Tolerance
    comparisons: list[Comparison]

    @property
    def logit_difference(self) -> float | None:
        """The largest of all."""
        differences = [one.logit_difference for one in self.comparisons if one.logit_difference is not None]
        return max(differences, default=None)

    @property
    def equal_labels(self) -> float:
        """The mean share."""
        return float(np.mean([one.equal_labels for one in self.comparisons]))

    def check(self) -> None:
        """
        Refuse an export that is not what the model is.

        Raises:
            ParityError: If a difference is larger than tolerated; in words, with the picture.
        """
        for one in self.comparisons:
            allowed = self.tolerance.logit_difference * one.largest_logit
            # Written so that it fails where the difference is not a number.
            if one.logit_difference is not None and not one.logit_difference <= allowed:
                raise ParityError(
                    f"The exported file is not the model: on {one.picture} of {one.size[0]}×{one.size[1]} a logit is "
                    f"off by {one.logit_difference:.3g}, and {allowed:.3g} is tolerated. Nothing was kept. Try "
                    "precision='float32', another format, or a newer version of the engine."
                )
        if not self.equal_labels >= self.tolerance.equal_labels:
            raise ParityError(
                f"The exported file is not the model: {self.equal_labels:.2%} of the labels are equal, and at least "
                f"{self.tolerance.equal_labels:.2%} are asked for. Nothing was kept. Try a higher precision, or for "
                "int8 more photos, and such as the model was trained for."
            )


def compare(
    engine: ExportedEngine,
    model: PreTrainedModel,
    image_processor: Any,
    photos: Sequence[tuple[str, np.ndarray]] = (),
) -> ParityReport:
    """
    Run an exported file and the model on the same pictures.

    Args:
        engine ([`ExportedEngine`]): The exported file.
        model (`PreTrainedModel`): The PyTorch model, in evaluation mode.
        image_processor (`BaseImageProcessor`): Its image processor.
        photos (`Sequence[tuple[str, np.ndarray]]`, *optional*): Names and pictures (height, width, 3), uint8. At the
            five sizes they stand in for made-up pictures.

    Returns:
        [`ParityReport`]: the comparison at the five sizes, or at the file's only size, and on the photos.
    """
    plain = PlainEngine(model)
    comparisons = []
    settings = engine.settings
    num_channels = find_num_channels(model.config)
    if settings.size is None:
        sizes = SIZES
        pictures = [(name, photo) for name, photo in photos]
    else:
        sizes = [settings.size] * len(SIZES)
        pictures = []
    shrunk = [
        _resize(photos[index % len(photos)][1], size) if photos else make_picture(size, index, num_channels)
        for index, size in enumerate(sizes)
    ]
    kind = "a photo" if photos else "a made-up picture"
    for picture in shrunk:
        comparisons.append(_compare_one(engine, plain, image_processor, kind, picture, do_resize=False))
    for name, picture in pictures:
        comparisons.append(_compare_one(engine, plain, image_processor, name, picture, do_resize=True))
    return ParityReport(find_tolerance(settings, str(engine.dtype).removeprefix("torch.")), comparisons)


def find_tolerance(settings: ExportSettings, precision: str) -> Tolerance:
    """What is tolerated of a file that is computed in a type, and where it resizes, of its resizing too."""
    tolerance = TOLERANCES[precision]
    if not settings.include_preprocessing:
        return tolerance
    return Tolerance(
        max(tolerance.logit_difference, RESIZING_TOLERANCE.logit_difference),
        min(tolerance.equal_labels, RESIZING_TOLERANCE.equal_labels),
    )


def make_picture(size: tuple[int, int], seed: int = 0, num_channels: int = 3) -> np.ndarray:
    """A picture of smooth and rough colours, (height, width, channels), uint8; the same for the same arguments."""
    generator = np.random.default_rng(seed)
    height, width = size
    smooth = torch.from_numpy(generator.uniform(-80, 335, (1, num_channels, height // 48 + 2, width // 48 + 2)))
    smooth = nn.functional.interpolate(smooth, size, mode="bicubic")[0].permute(1, 2, 0).numpy()
    return (smooth + generator.normal(0, 12, (height, width, num_channels))).clip(0, 255).astype(np.uint8)


def _compare_one(
    engine: ExportedEngine, plain: PlainEngine, image_processor: Any, name: str, picture: np.ndarray, do_resize: bool
) -> Comparison:
    settings = engine.settings
    size = picture.shape[:2]
    # A graph that takes pictures resizes them; one that takes pixels is tried at the size that they happen to have.
    prepared = image_processor(
        [picture], return_tensors="pt", do_pad=False, do_resize=do_resize or settings.include_preprocessing
    )["pixel_values"]
    logits = plain(prepared)
    output = engine(torch.tensor(picture)[None] if settings.include_preprocessing else prepared)
    if settings.include_argmax:
        target = size if settings.include_preprocessing else tuple(prepared.shape[-2:])
        input_size = tuple(prepared.shape[-2:])
        labels = label_map_from_logits(logits[0], image_size_of_input(logits, input_size), target)
        difference, equal = None, output[0] == labels
    else:
        difference = float((output - logits).abs().max()) if output.isfinite().all() else float("nan")
        equal = output.argmax(dim=1) == logits.argmax(dim=1)
    return Comparison(
        picture=name,
        size=tuple(size if settings.include_preprocessing else prepared.shape[-2:]),
        logit_difference=difference,
        largest_logit=float(logits.abs().max()),
        equal_labels=float(equal.double().mean()),
    )


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.BILINEAR))
