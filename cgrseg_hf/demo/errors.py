# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""What is said to visitors when something went wrong."""


class DemoError(Exception):
    """What went wrong and what to do, in words for whoever looks at the page; it names no path of this computer."""
