# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What the arrangement of the network is worth: a literal rendering beside the plain model and its inference form.

    python scripts/benchmark_forms.py --model t --threads 2 --compile

The literal rendering computes each step as the architecture states it: strip convolutions over the whole picture of
column plus row, attention biases gathered and resized in every call, features upsampled before the 1×1 convolution,
the gate applied to the features. All take the same pixels, in turns in one process, and their logits are compared
before anything is timed.
"""

import argparse
import copy
import json

import torch
from torch import nn

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation
from cgrseg_hf.benchmark import count_model, measure_in_rounds
from cgrseg_hf.inference import keep_freed_memory
from cgrseg_hf.model.modeling_cgrseg import SpatialFeatureReconstruction, StripConvolution
from cgrseg_hf.model.modeling_efficientformerv2 import (
    EfficientFormerV2Attention,
    EfficientFormerV2PositionBias,
    position_distances,
)

TOLERANCE = 1e-4


class LiteralStripConvolution(StripConvolution):
    """A depthwise 1×k convolution over the picture of column plus row."""

    def forward(self, column: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, 1) and (batch, channels, 1, width) to (batch, channels, height, width)."""
        return nn.Conv2d.forward(self, column + row)


class LiteralPositionBias(EfficientFormerV2PositionBias):
    """The bias gathered from its table and resized in every call, whatever the size."""

    def forward(self, num_queries: int, num_keys: int) -> torch.Tensor:
        """The bias of shape (heads, num_queries, num_keys)."""
        distances = position_distances(self.grid_size, self.query_stride, device=self.table.device)
        bias = self.table[:, distances][None]
        return nn.functional.interpolate(bias, size=(num_queries, num_keys), mode="bicubic", align_corners=False)[0]


class LiteralAttention(EfficientFormerV2Attention):
    """Upsampled in the layout that it comes in."""

    def upsample(self, hidden_states: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(batch, channels, height, width) to the given height and width, bilinearly."""
        return nn.functional.interpolate(hidden_states, size=size, mode="bilinear", align_corners=False)


class LiteralReconstruction(SpatialFeatureReconstruction):
    """Each coarser scale is upsampled first and projected then."""

    def forward(self, features: list[torch.Tensor], contexts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Features of strides 8, 16 and 32 and their contexts to (batch, D, height/8, width/8)."""
        reconstructed = None
        for scale in reversed(range(len(features))):
            hidden_states = features[scale]
            if reconstructed is not None:
                upsampled = nn.functional.interpolate(
                    reconstructed, size=hidden_states.shape[-2:], mode="bilinear", align_corners=False
                )
                hidden_states = hidden_states + self.lateral_projections[scale](upsampled)
            reconstructed = self.fusions[scale](self.calibrations[scale](hidden_states), contexts[scale])
        return reconstructed


LITERAL = {
    StripConvolution: LiteralStripConvolution,
    EfficientFormerV2PositionBias: LiteralPositionBias,
    EfficientFormerV2Attention: LiteralAttention,
    SpatialFeatureReconstruction: LiteralReconstruction,
}


def make_literal(model: CGRSegForSemanticSegmentation) -> CGRSegForSemanticSegmentation:
    """A copy of the model that computes every step as it is stated."""
    literal = copy.deepcopy(model)
    for module in literal.modules():
        module.__class__ = LITERAL.get(type(module), type(module))
    return literal


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Weights with which every part of the network shows: scales of 1e-6 and biases of zero would hide errors."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith(".scale"):
            tensor.uniform_(0.1, 0.3, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("table", "running_mean", "gate_projection.weight")):
            tensor.normal_(std=0.1, generator=generator)
        elif name.endswith("classifier.weight"):  # logits of the size that a trained model has
            tensor.normal_(std=0.5, generator=generator)


def main() -> None:
    """Compare, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t", help="preset (default: t)")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="height and width (default: 512 512)")
    parser.add_argument("--threads", type=int, help="processor cores (default: PyTorch's choice)")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each form (default: 15)")
    parser.add_argument("--compile", action="store_true", help="measure the compiled forms too")
    parser.add_argument("--keep-freed-memory", action="store_true", help="as `cgrseg predict` does")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.keep_freed_memory and not keep_freed_memory():
        raise SystemExit("This C library does not let freed memory be kept.")

    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(arguments.model, num_labels=150)).eval()
    randomize(model)
    forms = {"plain": model, "literal": make_literal(model), "inference": model.optimize_for_inference()}
    if arguments.compile:
        forms |= {f"{name}, compiled": torch.compile(forms[name]) for name in ("plain", "inference")}
    pixel_values = torch.randn(1, 3, *arguments.size, generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        expected = model(pixel_values).logits
        differences = {name: (form(pixel_values).logits - expected).abs().max().item() for name, form in forms.items()}
        if max(differences.values()) > TOLERANCE * expected.abs().max().item():
            raise SystemExit(f"The forms' logits differ: {differences}")
        timings = measure_in_rounds(
            {name: lambda _, form=form: form(pixel_values).logits for name, form in forms.items()}, arguments.rounds
        )
    plain = timings["plain"].median
    report = {
        name: {
            "median_ms": 1000 * timing.median,
            "p10_p90_ms": [1000 * seconds for seconds in timing.spread],
            "ratio_to_plain": timing.median / plain,
            "largest_logit_difference": differences[name],
        }
        for name, timing in timings.items()
    }
    report["largest_logit"] = expected.abs().max().item()
    for name in ("literal", "plain"):
        count = count_model(forms[name], tuple(arguments.size))
        report[name]["convolutions"], report[name]["everything"] = count.convolutions, count.everything
    print(json.dumps({**report, "plain_to_literal": plain / timings["literal"].median}, indent=2))


if __name__ == "__main__":
    main()
