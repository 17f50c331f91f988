# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps in the forms that other tools take: masks, polygons, COCO run-length encodings, detections."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..utils.optional import import_optional

if TYPE_CHECKING:
    import supervision

# The outline, and after it the holes, each (corners, 2): x and y.
Polygon = list[np.ndarray]


def make_masks(label_map: np.ndarray, class_ids: Sequence[int]) -> np.ndarray:
    """Where each of the classes is, (classes, height, width), bool."""
    masks = np.empty((len(class_ids), *label_map.shape), dtype=bool)
    for mask, class_id in zip(masks, class_ids):
        np.equal(label_map, class_id, out=mask)
    return masks


def make_polygons(label_map: np.ndarray, class_ids: Sequence[int]) -> dict[int, list[Polygon]]:
    """
    The polygons of each class along the edges of its pixels, in the order of the ids; see [`Segmentation.to_polygons`].

    Raises:
        ImportError: If rasterio is missing.
    """
    features = import_optional("rasterio.features", extra="coco", purpose="Polygons")
    polygons: dict[int, list[Polygon]] = {class_id: [] for class_id in class_ids}
    for shape, class_id in features.shapes(np.ascontiguousarray(label_map), connectivity=4):
        # GeoJSON repeats a ring's first corner at its end.
        rings = [np.array(ring[:-1], dtype=np.int32) for ring in shape["coordinates"]]
        polygons[int(class_id)].append(rings)
    return polygons


def make_rle(label_map: np.ndarray, class_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    """
    The COCO run-length encoding of each class, in the order of the ids; see [`Segmentation.to_rle`].

    Raises:
        ImportError: If pycocotools is missing.
    """
    coco_mask = import_optional("pycocotools.mask", extra="coco", purpose="Run-length encodings")
    encodings = {}
    for class_id in class_ids:
        encoding = coco_mask.encode(np.asfortranarray(label_map == class_id, dtype=np.uint8))
        encodings[class_id] = {"size": list(encoding["size"]), "counts": encoding["counts"].decode("ascii")}
    return encodings


def make_detections(
    label_map: np.ndarray, class_ids: Sequence[int], id2label: Mapping[int, str]
) -> "supervision.Detections":
    """
    One detection for each class; see [`Segmentation.to_detections`].

    Raises:
        ImportError: If supervision is missing.
    """
    supervision = import_optional("supervision", extra="supervision", purpose="Detections")
    masks = make_masks(label_map, class_ids)
    return supervision.Detections(
        xyxy=supervision.mask_to_xyxy(masks).astype(np.float32),
        mask=masks,
        class_id=np.array(class_ids, dtype=int),
        data={"class_name": np.array([id2label[class_id] for class_id in class_ids])},
    )
