# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The model: what travels to the Hugging Face Hub with its weights, as flat files that load without this package."""
