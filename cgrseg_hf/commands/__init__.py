# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The command line: one file a command, each parses, calls the library and prints."""
