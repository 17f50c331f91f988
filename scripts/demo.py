# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Segment a photo with the model that comes with the package.

    bash scripts/demo.sh [photo.jpg]

The model knows street scenes: 11 classes, learned from 367 images. It takes any photo, but sees streets in all of them.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

import cgrseg_hf  # noqa: F401  (makes CGRSeg known to transformers)
from cgrseg_hf.pretrained import DEFAULT_MODEL
from cgrseg_hf.visualization import draw_overlay

PHOTO = Path(__file__).parents[1] / "tests" / "fixtures" / "photos" / "images" / "000000015517.jpg"


def main() -> None:
    """Read, segment, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=PHOTO, help="a photo (default: a street in the tests)")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder for the result")
    arguments = parser.parse_args()

    image_processor = AutoImageProcessor.from_pretrained(DEFAULT_MODEL)
    model = AutoModelForSemanticSegmentation.from_pretrained(DEFAULT_MODEL)
    photo = ImageOps.exif_transpose(Image.open(arguments.photo)).convert("RGB")
    with torch.inference_mode():
        outputs = model(**image_processor(photo, return_tensors="pt"))
    (label_map,) = image_processor.post_process_semantic_segmentation(outputs, [(photo.height, photo.width)])

    arguments.output.mkdir(parents=True, exist_ok=True)
    overlay = arguments.output / "overlay.png"
    draw_overlay(photo, label_map.numpy(), model.config.id2label).save(overlay)
    print(f"The photo with its classes is {overlay}.")


if __name__ == "__main__":
    main()
