# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""From logits to label maps, with the geometry of padded inputs.

A label map does not need the score of every class at every pixel. Between four neighbouring positions of the logits (a
cell, below) a resized score is a weighted mean of those at the cell's corners. So where one class is the highest at
all four corners, it is the highest in the cell; elsewhere, a class whose highest corner lies below the lowest corner of
another cannot be. The few scores that remain are computed with the weights of `interpolate` and in its order, across
before down, so that the label map is the one that comes of resizing every class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers.modeling_outputs import SemanticSegmenterOutput

from .geometry_cgrseg import LOGITS_STRIDE, get_logits_size

# Logits whose cells are looked at together, and scores in cells that are computed at once: few enough for the cache.
_LOGITS_AT_ONCE = 2**20
_SCORES_AT_ONCE = 2**18

# Choosing by cells pays from this many pixels for each position on, and while a class to choose from costs less, at
# so many scores besides those of its pixels, than all classes everywhere.
_LEAST_ENLARGEMENT = 12
_SCORES_PER_CANDIDATE = 192

# Cells that have up to so many classes to choose from are computed together.
_CANDIDATE_COUNTS = sorted([2**power for power in range(1, 31)] + [3 * 2**power for power in range(30)])


@dataclass
class CGRSegSemanticSegmenterOutput(SemanticSegmenterOutput):
    """
    Output of [`CGRSegForSemanticSegmentation`].

    Args:
        loss (`torch.Tensor` of shape `(1,)`, *optional*, returned when `labels` is provided):
            Pixel-wise cross-entropy.
        logits (`torch.Tensor` of shape `(batch, num_labels, ceil(height / 8), ceil(width / 8))`):
            Class scores before softmax.
        hidden_states (`tuple(torch.Tensor)`, *optional*, returned when `output_hidden_states=True`):
            The backbone's stem output and stage outputs, `(batch, channels, height / stride, width / stride)`.
        attentions (`tuple(torch.Tensor)`, *optional*, returned when `output_attentions=True`):
            The backbone's attention weights, `(batch, heads, queries, keys)`.
        image_sizes (`torch.LongTensor` of shape `(batch, 2)`, *optional*, returned when it is passed or needed):
            Height and width of each image in `pixel_values` without its padding, for
            `post_process_semantic_segmentation`. Without it, the logits cover the image exactly.
    """

    image_sizes: torch.LongTensor | None = None


def resize_logits(
    logits: torch.Tensor, image_size: tuple[int, int] | None, target_size: tuple[int, int]
) -> torch.Tensor:
    """
    Resize class scores to an image's size in one bilinear step that never looks at padding.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels, logits_height, logits_width)`):
            Class scores, one position for every 8×8 pixels of the model's input.
        image_size (`tuple[int, int]`, *optional*):
            Height and width in pixels of the real image in the model's input, without the padding below and right
            of it. It need not divide by 8. `None` for logits of any stride that cover the image exactly.
        target_size (`tuple[int, int]`):
            Height and width in pixels of the result.

    Returns:
        `torch.Tensor` of shape `(batch, num_labels, target_height, target_width)`.
    """
    logits, scales = _crop_to_image(logits, image_size, target_size)
    return _interpolate(logits, target_size, scales)


def label_map_dtype(num_labels: int) -> torch.dtype:
    """The narrowest type for label maps of so many classes that all devices and formats compute with."""
    return torch.uint8 if num_labels <= 256 else torch.int32


@torch.no_grad()
def label_map_from_logits(
    logits: torch.Tensor,
    image_size: tuple[int, int] | None,
    target_size: tuple[int, int],
    dtype: torch.dtype = torch.int64,
) -> torch.Tensor:
    """
    The class of each pixel with the highest score, as by [`resize_logits`] in float32 and `argmax`, but much faster.

    Classes whose scores differ by no more than a rounding error may change places. Of equal classes the first wins.

    Args:
        logits (`torch.Tensor` of shape `(num_labels, logits_height, logits_width)`):
            Class scores of one image, of any floating-point type.
        image_size (`tuple[int, int]`, *optional*):
            Height and width in pixels of the real image in the input of CGRSeg, without the padding below and right
            of it. `None` for logits of any stride that cover the image exactly.
        target_size (`tuple[int, int]`):
            Height and width in pixels of the label map.
        dtype (`torch.dtype`, *optional*, defaults to `torch.int64`):
            Type of the result. It must hold `num_labels - 1`.

    Returns:
        `torch.Tensor` of shape `(target_height, target_width)`, on the device of the logits.

    Raises:
        ValueError: If `dtype` does not hold all classes.
    """
    if torch.iinfo(dtype).max < len(logits) - 1:
        raise ValueError(f"dtype={dtype} does not hold the labels 0 to {len(logits) - 1}: use a wider one.")
    cropped, scales = _crop_to_image(logits.float(), image_size, target_size)
    label_map = None
    if math.prod(target_size) >= _LEAST_ENLARGEMENT * math.prod(cropped.shape[1:]) and cropped.sum().isfinite():
        label_map = _classify_by_cell(cropped, target_size, scales, dtype)
    if label_map is None:
        label_map = classify_by_class(cropped, lambda scores: _interpolate(scores, target_size, scales), dtype)
    return label_map


@torch.no_grad()
def classify_by_class(
    logits: torch.Tensor, resize: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype = torch.int64
) -> torch.Tensor:
    """
    The class of each pixel with the highest score, for scores resized in any way, in the memory of a few classes.

    Args:
        logits (`torch.Tensor` of shape `(num_labels, logits_height, logits_width)`):
            Class scores of one image, of any floating-point type.
        resize (`Callable`):
            Brings scores of one class, `(1, 1, logits_height, logits_width)`, float32, to the target size.
        dtype (`torch.dtype`, *optional*, defaults to `torch.int64`):
            Type of the result. It must hold `num_labels - 1`.

    Returns:
        `torch.Tensor` of shape `(target_height, target_width)`, on the device of the logits.
    """
    labels = highest = None
    for class_id, of_class in enumerate(logits):
        resized = resize(of_class[None, None].float())[0, 0]
        if highest is None:
            labels, highest, scores, lead = (torch.zeros_like(resized) for _ in range(4))
            highest.fill_(-torch.inf)
        # argmax takes NaN for the highest too. Written where there is memory already: new one is slow for large images.
        torch.nan_to_num(resized, torch.inf, torch.inf, -torch.inf, out=scores)
        _take_if_higher(scores, class_id, labels, highest, lead)
    return labels.to(dtype)


def _take_if_higher(
    scores: torch.Tensor,
    class_id: int | torch.Tensor,
    labels: torch.Tensor,
    highest: torch.Tensor,
    lead: torch.Tensor | None = None,
) -> None:
    """
    Write a class and its scores where they are higher than those of the classes before it, whose ids are lower.

    All are float32; `lead` is memory to work in.
    """
    # Arithmetic is several times as fast as masks, which PyTorch does not vectorise on CPUs.
    lead = torch.sub(scores, highest, out=lead).nan_to_num_(0)  # two infinite scores are equal
    torch.maximum(labels, lead.sign_().mul_(class_id), out=labels)
    torch.maximum(highest, scores, out=highest)


def _crop_to_image(
    logits: torch.Tensor, image_size: tuple[int, int] | None, target_size: tuple[int, int]
) -> tuple[torch.Tensor, tuple[float | None, float | None]]:
    """The logits that see the image, and how many pixels high and wide each is in the target."""
    if image_size is None:
        return logits, (None, None)
    rows, columns = get_logits_size(image_size)
    # interpolate() takes a size or a scale, but here the scale is not the ratio of the sizes: the last position may
    # reach beyond the image.
    scales = tuple(LOGITS_STRIDE * target / length for target, length in zip(target_size, image_size))
    return logits[..., :rows, :columns], scales


def _interpolate(
    scores: torch.Tensor, size: tuple[int, int], scales: tuple[float | None, float | None] = (None, None)
) -> torch.Tensor:
    return torch.ops.aten.upsample_bilinear2d(scores, list(size), False, *scales)


def _classify_by_cell(
    logits: torch.Tensor, size: tuple[int, int], scales: tuple[float | None, float | None], dtype: torch.dtype
) -> torch.Tensor | None:
    """The label map by the scores of the classes that can win in each cell; nothing if those are too many."""
    num_labels, height, width = logits.shape
    rows = _divide_into_cells(height, size[0], scales[0], logits.device)
    columns = _divide_into_cells(width, size[1], scales[1], logits.device)
    best = logits.max(dim=0).indices
    label_map = best.to(dtype).index_select(1, columns.first).index_select(0, rows.first)

    by_position = logits.flatten(1).T.contiguous()  # (positions, num_labels)
    undecided = _find_undecided(best, rows, columns)
    limit = num_labels * label_map.numel() // (_SCORES_PER_CANDIDATE + 2 * rows.longest * columns.longest)
    parts = max(-(-len(undecided) * num_labels // _LOGITS_AT_ONCE), 1)
    for part in range(parts):  # each from all over the picture, so that the first says whether it is worth while
        row, column = undecided[part::parts].unbind(1)
        corners = [y * width + x for y in rows.corners[:, row] for x in columns.corners[:, column]]
        candidates = _find_candidates(by_position, best, torch.stack(corners), limit // parts)
        if candidates is None:
            return None
        _classify_cells(row, column, candidates, rows, columns, label_map)
    return label_map


class _Cells(NamedTuple):
    """
    Cells along one side of the logits, and the pixels of the target in them.

    The first cell lies before the first position, the last one behind the last: there, both corners are the same.
    """

    corners: torch.Tensor  # (2, cells), the positions before and behind each cell
    start: torch.Tensor  # (cells + 1,), the first pixel of each cell, and the number of pixels
    longest: int  # the most pixels of a cell
    first: torch.Tensor  # (pixels,), the position before each pixel
    weights: torch.Tensor  # (2, pixels), of the positions before and behind each pixel


def _divide_into_cells(length: int, target: int, scale: float | None, device: torch.device) -> _Cells:
    """The cells of a side with so many positions, for a target with so many pixels."""
    # The weights are read off resized patterns: rounded in another way, they could change scores by more than 1e-5.
    # One pattern says about where a pixel lies, three say the weights of the positions with the same rest by 3.
    positions = torch.arange(length, device=device)
    patterns = torch.stack([positions, *(positions % 3 == rest for rest in range(3))]).float()
    place, *weights = _interpolate(patterns[None, :, :, None], (target, 1), (scale, None))[0, :, :, 0]
    weights = torch.stack(weights)
    nearest = place.round().long()
    first = nearest - (weights.gather(0, (nearest - 1)[None] % 3)[0] > 0).long()
    weights = weights.gather(0, torch.stack([first, first + 1]) % 3)

    cell = torch.where((first == 0) & (weights[1] == 0), 0, first + 1)
    boundaries = torch.arange(length + 2, device=device)
    start = torch.searchsorted(cell, boundaries)
    return _Cells(
        corners=torch.stack([boundaries[:-1] - 1, boundaries[:-1]]).clamp(0, length - 1),
        start=start,
        longest=int(start.diff().max()),
        first=first,
        weights=weights,
    )


def _find_undecided(best: torch.Tensor, rows: _Cells, columns: _Cells) -> torch.Tensor:
    """Row and column, (cells, 2), of those that have pixels, and not one best class at all corners."""
    corners = [best.index_select(0, y).index_select(1, x) for y in rows.corners for x in columns.corners]
    undecided = corners[0] != corners[1]
    undecided |= corners[0] != corners[2]
    undecided |= corners[0] != corners[3]
    return (undecided & (rows.start.diff() > 0)[:, None] & (columns.start.diff() > 0)).nonzero()


class _Candidates(NamedTuple):
    """The classes that can win in each of some cells: cell by cell, in ascending order."""

    count: torch.Tensor  # (cells,)
    class_id: torch.Tensor  # (candidates,)
    scores: torch.Tensor  # (4, candidates), at the cell's corners


def _find_candidates(
    by_position: torch.Tensor, best: torch.Tensor, corners: torch.Tensor, limit: int
) -> _Candidates | None:
    """
    The candidates of cells with the corners (4, cells); nothing if it seems that they are more than the limit.

    Rivals of a candidate are the best classes at the four corners. Its highest corner must reach the lowest of each
    rival; of those few that do so, each must reach each rival at one corner, for one that is below at all of them is
    below between them too.
    """
    num_labels = by_position.shape[1]
    rivals = by_position.take(corners * num_labels + best.take(corners)[:, None])  # (4 rivals, 4 corners, cells)
    highest = by_position.index_select(0, corners[0])
    for corner in corners[1:]:
        torch.maximum(highest, by_position.index_select(0, corner), out=highest)
    candidates = (highest >= rivals.amin(dim=1).amax(dim=0)[:, None]).flatten().nonzero().squeeze(1)
    if len(candidates) > limit:
        return None
    cell, class_id = candidates // num_labels, candidates % num_labels
    scores = by_position.take(corners.index_select(1, cell) * num_labels + class_id)
    lead = (scores - rivals.index_select(2, cell)).amax(dim=1).amin(dim=0)
    kept = (lead >= 0).nonzero().squeeze(1)
    return _Candidates(
        count=torch.bincount(cell.index_select(0, kept), minlength=corners.shape[1]),
        class_id=class_id.index_select(0, kept),
        scores=scores.index_select(1, kept),
    )


def _classify_cells(
    row: torch.Tensor,
    column: torch.Tensor,
    candidates: _Candidates,
    rows: _Cells,
    columns: _Cells,
    label_map: torch.Tensor,
) -> None:
    """Write the best candidate of each pixel of the cells into the label map."""
    device, width = label_map.device, label_map.shape[1]
    start = candidates.count.cumsum(0) - candidates.count
    class_ids = candidates.class_id.float()
    down = torch.arange(rows.longest, device=device)[:, None]
    across = torch.arange(columns.longest, device=device)[:, None]
    group = torch.searchsorted(torch.tensor(_CANDIDATE_COUNTS, device=device), candidates.count)
    groups = group.argsort().split(torch.bincount(group).tolist())
    for count, members in zip(_CANDIDATE_COUNTS, groups):
        ranks = torch.arange(count, device=device)[:, None]
        for cells in members.split(max(_SCORES_AT_ONCE // (count * rows.longest * columns.longest), 16)):
            # Cells with fewer candidates or pixels repeat their last.
            chosen = (start[cells] + ranks.minimum(candidates.count[cells] - 1)).flatten()  # (count · cells,)
            y = (rows.start[row[cells]] + down).minimum(rows.start[row[cells] + 1] - 1)  # (pixels down, cells)
            x = (columns.start[column[cells]] + across).minimum(columns.start[column[cells] + 1] - 1)
            corners = candidates.scores.index_select(1, chosen).view(4, count, 1, len(cells))
            left, right = columns.weights[:, x]
            above = torch.addcmul(corners[0] * left, corners[1], right)  # (count, pixels across, cells)
            below = torch.addcmul(corners[2] * left, corners[3], right)
            above_weight, below_weight = rows.weights[:, y].unsqueeze(2)
            # (count, pixels down, pixels across, cells)
            scores = torch.addcmul(above[:, None] * above_weight, below[:, None], below_weight)
            ids = class_ids.index_select(0, chosen).view(count, len(cells))
            labels, highest = ids[0].expand(scores.shape[1:]).clone(), scores[0]
            for rank in range(1, count):
                _take_if_higher(scores[rank], ids[rank], labels, highest)
            label_map.view(-1).scatter_(0, (y[:, None] * width + x).flatten(), labels.flatten().to(label_map.dtype))
