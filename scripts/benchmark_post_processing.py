# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""How fast label maps are made, beside `interpolate` of all classes and `argmax`, and whether they are the same.

    python scripts/benchmark_post_processing.py --photos FOLDER --logits FILE

The two ways take turns in one process. Compared are the median times over all photos and rounds. Three kinds of logits:
those of a model on photos, normally distributed random numbers, and these rounded, so that many classes are equal.
With `--logits`, also those in a file that `torch.save` wrote: a list of `{"logits": (num_labels, height, width),
"image_size": (height, width)}`.
"""

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
from PIL import Image

from cgrseg_hf import CGRSegForSemanticSegmentation, CGRSegImageProcessor
from cgrseg_hf.model.geometry_cgrseg import LOGITS_STRIDE
from cgrseg_hf.model.post_processing_cgrseg import label_map_from_logits, resize_logits
from cgrseg_hf.pretrained import DEFAULT_MODEL

# Of two classes whose scores differ by less, either may win.
TOLERANCE = 1e-5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG files")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="whose logits of the photos (default: the shipped one)")
    parser.add_argument("--logits", type=Path, help="file of other logits, such as those of more classes")
    parser.add_argument("--num-labels", type=int, default=150, help="classes of the random logits (default: 150)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(512, 683), help="height and width; others are left out (default: 512 683)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: 2)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each photo is taken (default: 3)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = tuple(arguments.size)

    inputs = {"model": read_photos(arguments.model, arguments.photos, size)}
    if arguments.logits:
        stored = torch.load(arguments.logits)
        inputs["file"] = [example["logits"] for example in stored if tuple(example["image_size"]) == size]
    shape = (arguments.num_labels, *(-(-length // LOGITS_STRIDE) for length in size))
    random = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    inputs |= {"random": [random], "ties": [random.round()]}

    print(f"{size[0]}×{size[1]}, threads {arguments.threads}, GLIBC_TUNABLES={os.environ.get('GLIBC_TUNABLES', '')}")
    for name, all_logits in inputs.items():
        if not all_logits:
            print(f"{name}: no photo comes to this size")
            continue
        plain, ours = compare_times(all_logits, size, arguments.rounds if len(all_logits) > 1 else 5)
        differing, beyond = count_differences(all_logits, size)
        print(
            f"{name}: {len(all_logits)} × {len(all_logits[0])} classes, interpolate and argmax {plain * 1e3:.1f} ms, "
            f"ours {ours * 1e3:.1f} ms, ratio {ours / plain:.3f}, differing pixels {differing}, of which by more than "
            f"{TOLERANCE}: {beyond}",
            flush=True,
        )


@torch.inference_mode()
def read_photos(model: str | Path, folder: Path, size: tuple[int, int]) -> list[torch.Tensor]:
    """Logits of the photos that the image processor brings to the size."""
    network = CGRSegForSemanticSegmentation.from_pretrained(model).eval()
    image_processor = CGRSegImageProcessor.from_pretrained(model)
    results = []
    for path in sorted(folder.glob("*.jpg")):
        batch = image_processor(Image.open(path), return_tensors="pt")
        if tuple(batch["image_sizes"][0].tolist()) == size:
            results.append(network(pixel_values=batch["pixel_values"]).logits[0].clone())
    return results


def classify_plainly(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """What is compared with: all classes at all pixels."""
    return resize_logits(logits[None], size, size)[0].argmax(dim=0)


def compare_times(all_logits: list[torch.Tensor], size: tuple[int, int], rounds: int) -> tuple[float, float]:
    """Median seconds of both ways."""
    ways = (classify_plainly, lambda logits, size: label_map_from_logits(logits, size, size))
    times: tuple[list[float], list[float]] = ([], [])
    for way in ways:
        way(all_logits[0], size)
    for _ in range(rounds):
        for logits in all_logits:
            for way, measured in zip(ways, times):
                start = time.perf_counter()
                way(logits, size)
                measured.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def count_differences(all_logits: list[torch.Tensor], size: tuple[int, int]) -> tuple[int, int]:
    """Pixels of another class than that with the highest score, and those whose score is further from it."""
    differing = beyond = 0
    for logits in all_logits:
        scores = resize_logits(logits[None], size, size)[0]
        label_map = label_map_from_logits(logits, size, size)
        different = label_map != scores.argmax(dim=0)
        scores = scores[:, different]
        behind = scores.amax(dim=0) - scores.gather(0, label_map[different][None])[0]
        differing += int(different.sum())
        beyond += int((behind > TOLERANCE).sum())
    return differing, beyond


if __name__ == "__main__":
    main()
