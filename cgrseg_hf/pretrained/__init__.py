# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The model that comes with the package, for everything that needs one and was given none."""

from pathlib import Path

# CGRSeg-T for street scenes, 11 classes; its README.md says what it is good for and what it may be used for.
DEFAULT_MODEL = Path(__file__).parent / "cgrseg-t-camvid"
