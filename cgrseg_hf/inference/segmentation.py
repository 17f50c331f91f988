# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The classes of one image: areas, overlays, files, and the forms that other tools take."""

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..model.image_reading_cgrseg import ImageSource, UnreadableImageError, describe_source, read_image, to_photo
from ..utils.optional import import_optional
from ..visualization import Color, class_colors, draw_heat_map, draw_overlay
from ..visualization.heat_maps import find_class
from ..visualization.overlays import check_opacity
from .label_map_files import open_label_map, save_label_map
from .resampling import reduce_scores, resize_logits_region
from .tiff_files import find_georeference, read_label_map

if TYPE_CHECKING:
    import supervision

# The outline, and after it the holes, each (corners, 2): x and y.
Polygon = list[np.ndarray]

_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".json")

# Pixels that are counted together: counting takes eight bytes for each.
_COUNTED_AT_ONCE = 2**22

# The longer side of what a notebook shows, in pixels.
_LARGEST_IN_NOTEBOOK = 1024


class Segmentation:
    """
    The classes of one image.

    Args:
        label_map (`numpy.ndarray` of shape `(height, width)`, uint8 or uint16, or `Path`):
            The class of each pixel of the image as a person sees it, turned as its EXIF says; or the file that holds
            it, which is then `file`.
        id2label (`Mapping[int, str]`):
            Names of the classes.
        size (`tuple[int, int]`, *optional*):
            Height and width of a label map that is a file.
        pixel_counts (`numpy.ndarray` of shape `(num_labels,)`, *optional*):
            Pixels of each class; by default they are counted.
        source (*optional*):
            What was segmented, as it was passed: a path, image, array, ...
        read_photo (`Callable`, *optional*):
            Returns every so many pixels of the image in RGB, for overlays.
        scores (`numpy.ndarray` of shape `(num_labels, height, width)`, float32, *optional*):
            Class scores of each pixel, before softmax.
        entropy (`numpy.ndarray` of shape `(height, width)`, float32, *optional*):
            How undecided the model is at each pixel: entropy of the classes' probabilities in nats, from 0 to
            ln(num_labels).
        logits (`torch.Tensor` of shape `(num_labels, logits_height, logits_width)`, float32, *optional*):
            Class scores as the network computes them, at a fraction of the image's size.
        logits_image_size (`tuple[int, int]`, *optional*):
            With `logits` of CGRSeg, height and width in pixels of the image in the network's input; `None` if the
            logits cover the image exactly.
    """

    def __init__(
        self,
        label_map: np.ndarray | Path,
        id2label: Mapping[int, str],
        *,
        size: tuple[int, int] | None = None,
        pixel_counts: np.ndarray | None = None,
        source: Any = None,
        read_photo: Callable[[int], Image.Image] | None = None,
        scores: np.ndarray | None = None,
        entropy: np.ndarray | None = None,
        logits: torch.Tensor | None = None,
        logits_image_size: tuple[int, int] | None = None,
    ):
        self.id2label = dict(id2label)
        self.source = source
        self.scores = scores
        self.entropy = entropy
        self.logits = logits
        self.logits_image_size = logits_image_size
        self.file = label_map if isinstance(label_map, Path) else None
        self._label_map = label_map
        self._size = size
        self._pixel_counts = pixel_counts
        self._read_photo = read_photo

    def __repr__(self) -> str:
        largest = ", ".join(f"{name} {share:.0%}" for name, share in list(self.area_shares.items())[:3])
        height, width = self.size
        return f"Segmentation({height}×{width}: {largest}{', …' if len(self.area_shares) > 3 else ''})"

    @property
    def label_map(self) -> np.ndarray:
        """
        Class of each pixel, `(height, width)`: uint8, or with more than 256 classes uint16.

        One that was written to a `.npy` file is mapped from there; one in a TIFF file is read as a whole.
        """
        if isinstance(self._label_map, Path):
            self._label_map = open_label_map(self._label_map)
        return self._label_map

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image in pixels, as a person sees it."""
        return self._size or self.label_map.shape

    @property
    def pixel_counts(self) -> np.ndarray:
        """Pixels of each class by id, `(num_labels,)`, int64."""
        if self._pixel_counts is None:
            self._pixel_counts = count_pixels(self.label_map, max(self.id2label, default=-1) + 1)
        return self._pixel_counts

    @property
    def class_ids(self) -> list[int]:
        """Ids of the classes in the image, the one with the largest area first."""
        counts = self.pixel_counts
        return [int(class_id) for class_id in np.argsort(-counts, kind="stable") if counts[class_id]]

    @property
    def area_shares(self) -> dict[str, float]:
        """
        Share of the image, 0 to 1, by name of the class, for those in the image; the largest first.

        Classes of one name count together; [`~Segmentation.to_dict`] has them apart.
        """
        shares: dict[str, float] = {}
        for one in self.to_dict()["classes"]:
            shares[one["name"]] = shares.get(one["name"], 0.0) + one["share"]
        return dict(sorted(shares.items(), key=lambda one: -one[1]))

    @property
    def colors(self) -> list[tuple[int, int, int]]:
        """Colours of the classes by id, (red, green, blue) in 0 to 255."""
        return class_colors(self.id2label)

    def probabilities_at(self, row: int, column: int) -> np.ndarray:
        """
        Compute the probability of each class at a pixel from the logits.

        Args:
            row (`int`), column (`int`):
                The pixel, from 0 at the top and at the left.

        Returns:
            `numpy.ndarray` of shape `(num_labels,)`, float32.

        Raises:
            ValueError: If the logits were not kept, or there is no such pixel.
        """
        height, width = self.size
        if not (0 <= row < height and 0 <= column < width):
            raise ValueError(
                f"There is no pixel in row {row} and column {column}: rows go from 0 to {height - 1}, columns from 0 "
                f"to {width - 1}."
            )
        region = (slice(row, row + 1), slice(column, column + 1))
        scores = resize_logits_region(self._kept_logits, self.logits_image_size, self.size, region)
        return scores.softmax(dim=0)[:, 0, 0].cpu().numpy()

    def probability_map(self, class_name: str | int, size: tuple[int, int] | None = None) -> np.ndarray:
        """
        Compute the probability of one class at each pixel from the logits.

        Args:
            class_name (`str` or `int`):
                Name or id of the class.
            size (`tuple[int, int]`, *optional*):
                Height and width of the result; by default the image's own.

        Returns:
            `numpy.ndarray` of shape `(height, width)`, float32.

        Raises:
            ValueError: If the logits were not kept, or there is no such class.
        """
        class_id = find_class(class_name, self.id2label)
        return reduce_scores(
            lambda scores: scores.softmax(dim=0)[class_id],
            self._kept_logits,
            self.logits_image_size,
            self.size if size is None else size,
        ).numpy(force=True)

    @property
    def _kept_logits(self) -> torch.Tensor:
        if self.logits is None:
            raise ValueError("The logits of this segmentation were not kept: segment with return_logits=True.")
        return self.logits

    def overlay(
        self,
        photo: ImageSource | None = None,
        opacity: float = 0.55,
        max_side: int | None = None,
        colors: str | Sequence[Color] | None = None,
        legend: bool = True,
    ) -> Image.Image:
        """
        Lay the classes' colours over the photo, with boundaries and a legend.

        Args:
            photo (`ImageSource`, *optional*):
                The photo to lay them over, as the Segmenter takes it: a path, PIL image, array, ...; by default the one
                that was segmented, which is read again if it was passed as a path, unless `return_photo=True` kept it.
            opacity (`float`, *optional*, defaults to 0.55):
                How much of the colours, 0 to 1, covers the photo.
            max_side (`int`, *optional*):
                Show only every second, third, ... pixel where a side has more pixels than this.
            colors (`str` or `Sequence[tuple[int, int, int]]`, *optional*):
                Colours of the classes by id, or the name of a palette, such as `"colorblind"`, see [`class_colors`].
            legend (`bool`, *optional*, defaults to `True`):
                Whether to add the legend.

        Returns:
            `PIL.Image.Image`: the overlay.

        Raises:
            ValueError: If there is no photo, or one of another size, or `opacity` is not from 0 to 1.
        """
        check_opacity(opacity)
        step = self._step(max_side)
        label_map = self._reduced_label_map(step)
        # Predictions have no ignored label, and 255 is a class where there are many.
        return draw_overlay(self._show_photo(photo, step), label_map, self.id2label, opacity, -1, colors, legend)

    def heat_map(
        self, class_name: str | int, photo: ImageSource | None = None, max_side: int | None = None
    ) -> Image.Image:
        """
        Lay the probability of one class over the photo, with a colour bar.

        Args:
            class_name (`str` or `int`):
                Name or id of the class.
            photo (`ImageSource`, *optional*), max_side (`int`, *optional*):
                See [`~Segmentation.overlay`].

        Returns:
            `PIL.Image.Image`: the photo in grey under the colours.

        Raises:
            ValueError: If the logits were not kept (`return_logits=True`), or there is no such class or photo.
        """
        step, class_id = self._step(max_side), find_class(class_name, self.id2label)
        probability = self.probability_map(class_id, tuple(-(-side // step) for side in self.size))
        caption = f"probability of {self.id2label[class_id]}"
        return draw_heat_map(self._show_photo(photo, step), probability, caption, 0, 1, fade=True)

    def _show_photo(self, photo: ImageSource | None, step: int) -> Image.Image:
        """Return every `step`-th pixel of a photo, by default of the one that was segmented."""
        if photo is not None:
            return to_photo(self._open_photo(photo)[::step, ::step])
        if self._read_photo is None:
            raise ValueError("This segmentation does not know its photo: pass it.")
        return self._read_photo(step)

    def _open_photo(self, photo: ImageSource) -> np.ndarray:
        """Read a photo, which must have this segmentation's size, however large that is."""
        height, width = self.size
        try:
            pixels = read_image(photo, max_pixels=height * width)
            size = pixels.shape[:2]
        except UnreadableImageError as error:
            if not error.has_too_many_pixels:
                raise
            pixels, size = None, error.size
        if size != self.size or pixels is None:
            its_size = f"height and width {size}" if size else "more pixels"
            raise ValueError(
                f"{describe_source(photo)} has {its_size}, but the segmentation {self.size}: pass the photo that was "
                "segmented, at its own size."
            )
        return pixels

    def _repr_png_(self) -> bytes:
        """Draw for a notebook the overlay, or the colours alone where the photo cannot be read."""
        try:
            image = self.overlay(max_side=_LARGEST_IN_NOTEBOOK)
        except (ValueError, OSError):
            label_map = self._reduced_label_map(self._step(_LARGEST_IN_NOTEBOOK))
            blank = Image.new("RGB", label_map.shape[::-1])
            image = draw_overlay(blank, label_map, self.id2label, opacity=1.0, ignore_index=-1)
        file = io.BytesIO()
        image.save(file, format="PNG")
        return file.getvalue()

    def _step(self, max_side: int | None) -> int:
        """Compute of how many pixels one is shown, so that no side has more than `max_side`."""
        if max_side is not None and max_side < 1:
            raise ValueError(f"max_side={max_side}: it must be at least 1.")
        return 1 if max_side is None else max(-(-max(self.size) // max_side), 1)

    def _reduced_label_map(self, step: int) -> np.ndarray:
        if isinstance(self._label_map, Path) and self._label_map.suffix.lower() != ".npy":
            return read_label_map(self._label_map, step)
        return np.asarray(self.label_map[::step, ::step])

    def to_dict(self) -> dict[str, Any]:
        """Return size and areas: `height`, `width`, and `classes` with `id`, `name`, `pixels` and `share`."""
        counts = self.pixel_counts
        total = int(counts.sum())
        height, width = self.size
        return {
            "height": height,
            "width": width,
            "classes": [
                {
                    "id": class_id,
                    "name": self.id2label[class_id],
                    "pixels": int(counts[class_id]),
                    "share": int(counts[class_id]) / total,
                }
                for class_id in self.class_ids
            ],
        }

    def to_masks(self) -> tuple[list[int], np.ndarray]:
        """
        Make a mask of each class in the image.

        Returns:
            `tuple[list[int], numpy.ndarray]`: ids of the classes, the largest first, and in the same order where they
            are: `(classes, height, width)`, bool.
        """
        masks = np.empty((len(self.class_ids), *self.size), dtype=bool)
        for mask, class_id in zip(masks, self.class_ids):
            np.equal(self.label_map, class_id, out=mask)
        return self.class_ids, masks

    def to_polygons(self) -> dict[int, list[Polygon]]:
        """
        Make polygons around each connected part of each class, exactly along the edges of its pixels.

        Corners are at whole numbers: x counts from the image's left edge and y from its top, so that the pixel in
        column 3 and row 5 reaches from (3, 5) to (4, 6). Areas are numbers of pixels, and the pixels whose centres lie
        inside are the class's. Pixels that touch at a corner alone are in two polygons.

        Returns:
            `dict[int, list[list[numpy.ndarray]]]`: by class id, the largest class first, the polygons. Each is a list
            of rings: its outline, and after it its holes; a ring is `(corners, 2)`, int32, x and y, its last corner
            joined to its first. `shapely.Polygon(rings[0], rings[1:])` takes it; COCO has no holes in polygons, see
            [`~Segmentation.to_rle`].

        Raises:
            ImportError: If the extra `coco` is not installed.
        """
        features = import_optional("rasterio.features", extra="coco", purpose="Polygons")
        polygons: dict[int, list[Polygon]] = {class_id: [] for class_id in self.class_ids}
        for shape, class_id in features.shapes(np.ascontiguousarray(self.label_map), connectivity=4):
            # GeoJSON repeats a ring's first corner at its end.
            rings = [np.array(ring[:-1], dtype=np.int32) for ring in shape["coordinates"]]
            polygons[int(class_id)].append(rings)
        return polygons

    def to_rle(self) -> dict[int, dict[str, Any]]:
        """
        Make the run-length encodings of COCO: exact, with holes, ready for JSON and for `pycocotools.mask`.

        Returns:
            `dict[int, dict]`: by class id, the largest class first, `size` (height and width) and `counts` (a string).
            A COCO results file is `[{"image_id": 5, "category_id": class_id, "segmentation": rle, "score": 1.0}, ...]`
            of these.

        Raises:
            ImportError: If the extra `coco` is not installed.
        """
        coco_mask = import_optional("pycocotools.mask", extra="coco", purpose="Run-length encodings")
        encodings = {}
        for class_id in self.class_ids:
            encoding = coco_mask.encode(np.asfortranarray(self.label_map == class_id, dtype=np.uint8))
            encodings[class_id] = {"size": list(encoding["size"]), "counts": encoding["counts"].decode("ascii")}
        return encodings

    def to_detections(self) -> "supervision.Detections":
        """
        Make detections for the annotators, trackers and data sets of `supervision`.

        Returns:
            `supervision.Detections`: one for each class, the largest first, with box, mask, `class_id` and, in `data`,
            `class_name`.

        Raises:
            ImportError: If the extra `supervision` is not installed.
        """
        supervision = import_optional("supervision", extra="supervision", purpose="Detections")
        class_ids, masks = self.to_masks()
        return supervision.Detections(
            xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
            mask=masks,
            class_id=np.array(class_ids, dtype=int),
            data={"class_name": np.array([self.id2label[class_id] for class_id in class_ids])},
        )

    def save(self, path: str | os.PathLike) -> Path:
        """
        Write the label map, or the areas, by the suffix of the path.

        Args:
            path (`str` or `os.PathLike`):
                `.png` for an indexed PNG: its pixels are class ids, shown in the classes' colours (16-bit grey with
                more than 256 classes). `.tif` for the same as a tiled TIFF, with the coordinates of a GeoTIFF that was
                segmented, `.npy` for the array, `.json` for [`~Segmentation.to_dict`].

        Returns:
            `Path`: the path.

        Raises:
            ValueError: If the suffix is another: formats that lose detail, such as JPEG, would change ids.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix not in _SUFFIXES:
            raise ValueError(
                f"{path} does not end in one of {', '.join(_SUFFIXES)}: class ids are saved without loss only. For an "
                "image to look at, save overlay()."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".json":
            path.write_text(json.dumps(self.to_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        else:
            save_label_map(path, self.label_map, self.colors, find_georeference(self.source, len(self.id2label)))
        return path


def count_pixels(label_map: np.ndarray, num_labels: int) -> np.ndarray:
    """Count the pixels of each class, `(num_labels,)`, int64."""
    counts = np.zeros(num_labels, dtype=np.int64)
    rows = max(_COUNTED_AT_ONCE // label_map.shape[1], 1)
    for top in range(0, len(label_map), rows):
        counts += np.bincount(label_map[top : top + rows].ravel(), minlength=num_labels)
    return counts
