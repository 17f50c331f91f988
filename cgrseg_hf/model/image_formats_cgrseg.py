# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The formats of images that are opened, and the endings of their files. Imports nothing: commands start fast."""

# The formats that are opened, with the endings of their files. Pillow knows others, one of which, PostScript, it hands
# to a program that runs it. HEIF is opened once a plugin has registered it with Pillow.
FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "AVIF": (".avif", ".avifs"),
    "HEIF": (".heic", ".heif", ".hif"),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
FORMATS_IN_WORDS = "JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF, JPEG 2000 or PPM"
IMAGE_SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
TIFF_SUFFIXES = FORMATS["TIFF"]
