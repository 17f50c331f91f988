# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Time parts that are written for speed beside their direct form, in interleaved rounds, and compare their results.

    python scripts/benchmark_parts.py --model t --threads 2

- network: the plain model and its inference form (`cgrseg benchmark` has engines, precisions and other models);
- strip convolution: the 1×k convolution of column plus row, formed for every pixel, and `StripConvolution`;
- label map: `interpolate` of all classes with `argmax`, and `label_map_from_logits`, for the network's logits, normally
  distributed ones, and these rounded, so that many classes are equal.
"""

import argparse

import torch
from torch import nn

from cgrseg_hf import CGRSegConfig, CGRSegForSemanticSegmentation
from cgrseg_hf.benchmark import measure_in_rounds
from cgrseg_hf.model.modeling_cgrseg import StripConvolution
from cgrseg_hf.model.post_processing_cgrseg import label_map_from_logits, resize_logits


@torch.inference_mode()
def main() -> None:
    """Compare, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t", help="preset, with random weights (default: t)")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), help="height and width (default: 512 512)")
    parser.add_argument("--threads", type=int, help="processor cores (default: PyTorch's choice)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds (default: 15)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    size = tuple(arguments.size)

    torch.manual_seed(0)
    model = CGRSegForSemanticSegmentation(CGRSegConfig.from_preset(arguments.model, num_labels=150)).eval()
    inference_form = model.optimize_for_inference()
    pixel_values = torch.randn(1, 3, *size)
    strip = StripConvolution(num_channels=128, kernel_size=11)
    column, row = torch.randn(1, 128, size[0] // 8, 1), torch.randn(1, 128, 1, size[1] // 8)
    logits = model(pixel_values=pixel_values).logits[0]
    random_logits = torch.randn_like(logits)
    parts = {
        "network": (lambda: model(pixel_values=pixel_values).logits, lambda: inference_form(pixel_values).logits),
        "strip convolution": (lambda: nn.Conv2d.forward(strip, column + row), lambda: strip(column, row)),
    }
    for name, scores in (("the network's", logits), ("random", random_logits), ("tied", random_logits.round())):
        parts[f"label map of {name} logits"] = (
            lambda scores=scores: resize_logits(scores[None], size, size)[0].argmax(dim=0),
            lambda scores=scores: label_map_from_logits(scores, size, size),
        )
    for name, (direct, fast) in parts.items():
        expected, result = direct(), fast()
        if result.is_floating_point():
            difference = f"largest difference {(result - expected).abs().max():.1e} of {expected.abs().max():.1e}"
        else:
            difference = f"{(result != expected).sum()} of {result.numel()} pixels differ"
        calls = {"direct": lambda _, call=direct: call(), "fast": lambda _, call=fast: call()}
        timings = measure_in_rounds(calls, arguments.rounds)
        milliseconds = {form: 1000 * timing.median for form, timing in timings.items()}
        print(
            f"{name}: direct {milliseconds['direct']:.2f} ms, fast {milliseconds['fast']:.2f} ms, ratio "
            f"{milliseconds['fast'] / milliseconds['direct']:.3f}, {difference}",
            flush=True,
        )


if __name__ == "__main__":
    main()
