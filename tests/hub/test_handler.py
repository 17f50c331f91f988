# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What an endpoint says of pictures that it cannot read; what it answers to others is tested with the Hub."""

import io

import numpy as np
import pytest
from PIL import Image

from cgrseg_hf.hub.handler import read_picture


def test_whatever_pillow_raises_is_said_in_words():
    file = io.BytesIO()
    Image.new("RGB", (4, 3)).save(file, format="PNG", icc_profile=b"\0" * 3_000_000)
    contents = {
        "ValueError": b"P6 " + b"9" * 50 + b" 1 255\n\0\0\0",
        "ValueError, too large": file.getvalue(),
        "OSError": b"no picture",
        "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n",
    }
    for content in contents.values():
        with pytest.raises(ValueError, match="The picture in 'inputs' cannot be read"):
            read_picture(content)
    file = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, format="PNG")
    assert np.asarray(read_picture(file.getvalue())).shape == (3, 4, 3)
