# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Segment a photo with the model that comes with the package.

    bash scripts/demo.sh [photo.jpg]

The model knows street scenes: 11 classes, learned from 367 images. It takes any photo, but sees streets in all of them.
"""

import argparse
from pathlib import Path

from cgrseg_hf.inference import Segmenter, UnreadableImageError

PHOTO = Path(__file__).parents[1] / "tests" / "fixtures" / "photos" / "images" / "000000015517.jpg"


def main() -> None:
    """Read, segment, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=PHOTO, help="a photo (default: a street in the tests)")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder for the result")
    arguments = parser.parse_args()

    if not arguments.photo.is_file():
        parser.error(f"There is no photo {arguments.photo}.")
    segmenter = Segmenter.from_pretrained(engine="torch")  # PyTorch is what is always installed
    try:
        segmentation = segmenter(arguments.photo)
    except UnreadableImageError as error:
        parser.error(str(error))
    arguments.output.mkdir(parents=True, exist_ok=True)
    overlay = arguments.output / "overlay.png"
    segmentation.overlay().save(overlay)
    print(f"The photo with its classes is {overlay}.")


if __name__ == "__main__":
    main()
