# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Mean IoU in the Trainer of transformers, without keeping logits.

```python
trainer = Trainer(
    ...,
    args=TrainingArguments(..., batch_eval_metrics=True),
    compute_metrics=make_compute_metrics(model.config.num_labels, id2label=model.config.id2label),
    preprocess_logits_for_metrics=preprocess_logits_for_metrics,
)
```

With `batch_eval_metrics=True` no label maps are kept either.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import EvalPrediction

from ..model.geometry_cgrseg import image_size_of_input
from ..model.post_processing_cgrseg import label_map_from_logits
from .metric import MeanIoU

# Trainer pads label maps of unequal heights with this.
_TRAINER_PADDING = -100


def preprocess_logits_for_metrics(
    logits: torch.Tensor | tuple[torch.Tensor, ...], labels: torch.Tensor
) -> torch.Tensor:
    """
    Reduce logits to classes at the labels' size, on their device, by the same geometry as CGRSeg's loss.

    Args:
        logits (`torch.Tensor` of shape `(batch, num_labels, height, width)`):
            Class scores, or a tuple of outputs that begins with them.
        labels (`torch.Tensor` of shape `(batch, height, width)`):
            The label maps, of the size of the model's input.

    Returns:
        `torch.Tensor` of shape `(batch, height, width)` of the labels, int32: a type that holds Trainer's padding and
        that processes can exchange.
    """
    if isinstance(logits, tuple):
        logits = logits[0]
    size = tuple(labels.shape[-2:])
    image_size = image_size_of_input(logits, size)
    return torch.stack([label_map_from_logits(of_one, image_size, size, torch.int32) for of_one in logits])


def make_compute_metrics(
    num_labels: int, ignore_index: int = 255, id2label: Mapping[int, str] | None = None
) -> Callable[..., dict[str, float]]:
    """
    Make Trainer's `compute_metrics`, for predictions that `preprocess_logits_for_metrics` has reduced.

    Args:
        num_labels (`int`):
            Number of classes.
        ignore_index (`int`, *optional*, defaults to 255):
            The label that does not count, besides Trainer's padding of -100.
        id2label (`Mapping[int, str]`, *optional*):
            Names of the classes; by default their numbers.

    Returns:
        `Callable`: a function of an `EvalPrediction` and, for `batch_eval_metrics=True`, `compute_result`. It returns
        `mean_iou`, `mean_accuracy`, `overall_accuracy` and for each class `iou_<name>`, 0 to 1, NaN for a class that
        does not occur. Before the last batch it returns nothing.

    Raises:
        ValueError: By the returned function, if predictions are not label maps or a class does not exist.
    """
    metric = MeanIoU(num_labels, ignore_index)
    names = [str(name) for _, name in sorted((int(key), name) for key, name in (id2label or {}).items())]
    names = names or [str(class_id) for class_id in range(num_labels)]
    if len(names) != num_labels:
        raise ValueError(f"id2label has {len(names)} classes, but num_labels={num_labels}: they must be equal.")
    repeated = {name for name, times in Counter(names).items() if times > 1}
    names = [f"{name}_{class_id}" if name in repeated else name for class_id, name in enumerate(names)]

    def compute_metrics(prediction: EvalPrediction, compute_result: bool = True) -> dict[str, float]:
        predicted, labels = (_as_tensor(part) for part in (prediction.predictions, prediction.label_ids))
        if predicted.ndim != 3 or predicted.shape != labels.shape:
            raise ValueError(
                f"Predictions have shape {tuple(predicted.shape)}, labels {tuple(labels.shape)}, but label maps of the "
                "same shape (batch, height, width) are expected: pass preprocess_logits_for_metrics to Trainer too."
            )
        ignored = (labels == ignore_index) | (labels == _TRAINER_PADDING)
        metric.add_batch(
            predictions=predicted.masked_fill(ignored, 0), references=labels.masked_fill(ignored, ignore_index)
        )
        if not compute_result:
            return {}
        metrics = metric.compute()
        overall = {name: float(metrics[name]) for name in ("mean_iou", "mean_accuracy", "overall_accuracy")}
        return {**overall, **{f"iou_{name}": float(iou) for name, iou in zip(names, metrics["per_category_iou"])}}

    return compute_metrics


def _as_tensor(part: Any) -> torch.Tensor:
    return torch.as_tensor(part[0] if isinstance(part, tuple) else part)
