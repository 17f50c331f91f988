# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""One visitor's photo: opened within limits, segmented once, and then looked at in many ways."""

import io
import shutil
import tempfile
import weakref
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError  # another one than Python's own before Python 3.11
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..inference import Segmentation
from ..model.image_reading_cgrseg import UnreadableImageError, read_image, to_photo
from ..visualization import draw_heat_map, draw_overlay
from .errors import DemoError
from .limits import Limits
from .models import DemoModel

# Longer side in pixels of the pictures on the page, at most.
_LARGEST_VIEW = 1280


@dataclass(frozen=True)
class ClassArea:
    """A class in the photo: its id and name, colour as (red, green, blue) in 0 to 255, and share of it, 0 to 1."""

    class_id: int
    name: str
    color: tuple[int, int, int]
    share: float


@dataclass(frozen=True)
class PixelAnswer:
    """
    What the model says of a pixel.

    Args:
        x (`int`), y (`int`): The pixel's column and row in the photo, from 0.
        class_id (`int`), name (`str`), probability (`float`): Its class, and the probability of that, 0 to 1.
        runner_up (`tuple[str, float]`, *optional*): Name and probability of the next class; none if there is one only.
    """

    x: int
    y: int
    class_id: int
    name: str
    probability: float
    runner_up: tuple[str, float] | None


class PhotoDesk:
    """
    Segments visitors' photos, a few at a time, each within limits.

    Args:
        limits ([`Limits`]): What one photo may cost.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        # Threads that stay: PyTorch makes a team of its own for each thread that calls it.
        self._pool = ThreadPoolExecutor(limits.num_threads, thread_name_prefix="cgrseg-demo")

    def segment(self, path: str | Path, model: DemoModel) -> "SegmentedPhoto":
        """
        Open a photo and run the network on it.

        Raises:
            DemoError: If it is no photo, broken or too large, or takes too long.
        """
        running = self._pool.submit(self._segment, Path(path), model)
        try:
            return running.result(timeout=self.limits.seconds)
        except FutureTimeoutError:
            # What has begun cannot be broken off; it holds its place until it ends, and others wait for it.
            running.cancel()
            raise DemoError(
                f"This took longer than the {self.limits.seconds:g} seconds that are allowed here. Try a smaller "
                "photo, or try again when fewer people use the page."
            ) from None

    def _segment(self, path: Path, model: DemoModel) -> "SegmentedPhoto":
        try:
            pixels = open_photo(path, self.limits.max_pixels)
            check_shape(path.name, pixels.shape[:2], model, self.limits.max_pixels)
            segmentation = model.segmenter(pixels, return_logits=True)
        except UnreadableImageError as error:
            raise DemoError(str(error)) from error
        # Without the decoded photo, which it would hold as long as the visitor stays.
        kept = Segmentation(
            segmentation.label_map,
            segmentation.id2label,
            logits=segmentation.logits,
            logits_image_size=segmentation.logits_image_size,
        )
        return SegmentedPhoto(path.stem, to_photo(pixels), kept, model)


def open_photo(path: Path, max_pixels: int) -> np.ndarray:
    """
    Decode a photo, after its header was found to allow it.

    Args:
        path (`Path`): The file; what is said of it names no folder.
        max_pixels (`int`): Pixels that it may have.

    Returns:
        `numpy.ndarray` of shape `(height, width, 3)`: the photo, turned as a person sees it.

    Raises:
        DemoError: If it is not there any more, or has too many pixels.
        UnreadableImageError: If it is not an image, or is damaged.
    """
    try:
        file = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise DemoError(f"The photo is not here any more: choose it again. ({error.strerror})") from error
    file.name = path.name  # what errors call it, here and later
    try:
        return read_image(file, max_pixels)
    except UnreadableImageError as error:
        if not error.has_too_many_pixels:
            raise
        count = ""
        if error.size is not None:
            height, width = error.size
            count = f"it has {width:,} × {height:,} = {height * width:,} pixels, and "
        raise DemoError(
            f"{path.name} is too large: {count}this page takes up to {max_pixels:,} pixels. Make it smaller and try "
            "again."
        ) from None


def check_shape(name: str, size: tuple[int, int], model: DemoModel, max_pixels: int) -> None:
    """
    Refuse a photo so narrow that an image processor which looks at its shorter side alone would make it huge.

    Args:
        name (`str`): What the photo is called.
        size (`tuple[int, int]`): Its height and width in pixels.
        model ([`DemoModel`]): What is to segment it.
        max_pixels (`int`): Pixels that it may have when it is enlarged.

    Raises:
        DemoError: If it would have more.
    """
    wanted = model.segmenter.image_processor.size
    shortest, longest = (getattr(wanted, edge, None) for edge in ("shortest_edge", "longest_edge"))
    if shortest and not longest and shortest**2 * max(size) > max_pixels * min(size):
        raise DemoError(
            f"{name} is too narrow: this model enlarges its shorter side to {shortest} pixels, which makes more than "
            f"the {max_pixels:,} pixels that this page takes. Cut out a part of it."
        )


class SegmentedPhoto:
    """
    A photo with its classes. Nothing here runs the network.

    Args:
        name (`str`):
            What its file was called, without the suffix.
        photo (`PIL.Image.Image`):
            The photo in RGB.
        segmentation ([`Segmentation`]):
            Its classes, with logits.
        model ([`DemoModel`]):
            What segmented it.
    """

    def __init__(self, name: str, photo: Image.Image, segmentation: Segmentation, model: DemoModel):
        self.name = name
        self.model = model
        self.segmentation = segmentation
        self._colors = segmentation.colors
        height, width = segmentation.size
        scale = min(_LARGEST_VIEW / max(height, width), 1)
        self.view_size = max(round(height * scale), 1), max(round(width * scale), 1)
        self._view = photo
        self._view_labels = segmentation.label_map
        if self.view_size != (height, width):
            self._view = photo.resize(self.view_size[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0)
            rows, columns = (
                (np.arange(view) * 2 + 1) * whole // (2 * view)
                for view, whole in zip(self.view_size, segmentation.size)
            )
            self._view_labels = segmentation.label_map[np.ix_(rows, columns)]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo in pixels."""
        return self.segmentation.size

    @property
    def areas(self) -> list[ClassArea]:
        """The classes in the photo, the largest first."""
        return [
            ClassArea(one["id"], one["name"], self.color_of(one["id"]), one["share"])
            for one in self.segmentation.to_dict()["classes"]
        ]

    def color_of(self, class_id: int) -> tuple[int, int, int]:
        """Colour of a class, (red, green, blue) in 0 to 255."""
        return tuple(self._colors[class_id])

    def draw_overlay(self, opacity: float, pixel: tuple[int, int] | None = None) -> Image.Image:
        """
        The photo under its classes' colours.

        Args:
            opacity (`float`): How much of the colours, 0 to 1, covers the photo.
            pixel (`tuple[int, int]`, *optional*): Column and row of a pixel of the photo to mark.

        Returns:
            `PIL.Image.Image` of the size `view_size`.
        """
        height, width = self.view_size
        picture = draw_overlay(
            self._view,
            self._view_labels,
            self.segmentation.id2label,
            opacity,
            ignore_index=-1,  # predictions have no ignored label
            colors=self._colors,
            legend=False,  # the page has a table
        )
        if pixel is not None:
            x, y = ((one + 0.5) * view / whole for one, view, whole in zip(pixel, (width, height), self.size[::-1]))
            _mark(picture, x, y)
        return picture

    def draw_heat_map(self, class_id: int) -> Image.Image:
        """
        The probability of one class, pixel by pixel.

        Raises:
            DemoError: If there is no such class.
        """
        if class_id not in self.segmentation.id2label:
            raise DemoError("This model has no such class: choose one of the list.")
        probabilities = self.segmentation.probability_map(class_id, self.view_size)
        return draw_heat_map(self._view, probabilities, "probability", 0, 1, "inferno", opacity=0.75)

    def to_photo_pixel(self, view_x: int, view_y: int) -> tuple[int, int]:
        """Column and row in the photo of a pixel in its view."""
        (height, width), (view_height, view_width) = self.size, self.view_size
        return int((view_x + 0.5) * width / view_width), int((view_y + 0.5) * height / view_height)

    def look_up(self, x: float | None, y: float | None) -> PixelAnswer:
        """
        What the model says of a pixel.

        Args:
            x (`float`), y (`float`): Its column and row in the photo, from 0.

        Raises:
            DemoError: If there is no such pixel.
        """
        height, width = self.size
        if x is None or y is None or not (0 <= x < width and 0 <= y < height):
            raise DemoError(f"There is no such pixel: x goes from 0 to {width - 1}, y from 0 to {height - 1}.")
        x, y = int(x), int(y)
        names = self.segmentation.id2label
        class_id = int(self.segmentation.label_map[y, x])
        probabilities = self.segmentation.probabilities_at(y, x)
        others = [other for other in np.argsort(-probabilities, kind="stable").tolist() if other != class_id]
        runner_up = (names[others[0]], float(probabilities[others[0]])) if others else None
        return PixelAnswer(x, y, class_id, names[class_id], float(probabilities[class_id]), runner_up)

    def save_label_map(self, folder: Path) -> Path:
        """
        Write the classes' ids as an indexed PNG of the photo's size into a new folder in this one.

        The new folder is deleted as soon as this photo is forgotten: replaced, expired or displaced by others'.
        """
        place = Path(tempfile.mkdtemp(dir=folder))
        weakref.finalize(self, shutil.rmtree, place, ignore_errors=True)
        return self.segmentation.save(place / f"{self.name}_classes.png")


def _mark(picture: Image.Image, x: float, y: float) -> None:
    """A white ring with a dark edge around a pixel."""
    draw = ImageDraw.Draw(picture)
    inner = max(5, round(max(picture.size) / 110))
    for radius, color, width in ((inner + 3, "black", 5), (inner + 2, "white", 3)):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=width)
