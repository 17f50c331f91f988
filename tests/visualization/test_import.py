# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What importing costs."""

import subprocess
import sys

DRAW = """
import sys
import numpy as np
from PIL import Image
from cgrseg_hf.visualization import draw_overlay, draw_side_by_side

photo = Image.new("RGB", (4, 4))
draw_overlay(photo, np.zeros((4, 4), dtype=int), {0: "road"}, colors="colorblind")
draw_side_by_side(photo, np.zeros((4, 4), dtype=int), {0: "road"}, colors="generated")
print([name for name in ("torch", "transformers", "matplotlib", "datasets") if name in sys.modules])
"""


def test_drawing_needs_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
