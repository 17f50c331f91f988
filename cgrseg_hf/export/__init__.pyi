# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .exported_model import ExportedModel as ExportedModel
from .exporting import ExportReport as ExportReport
from .exporting import export_model as export_model
from .parity import ParityError as ParityError
