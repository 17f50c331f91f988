# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""`python -m cgrseg_hf` is `cgrseg`."""

from .commands.main import main

if __name__ == "__main__":
    main()
