# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""The web page of `cgrseg demo`: models and sessions know nothing of the web, the page nothing of networks."""
