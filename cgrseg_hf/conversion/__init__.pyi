# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .imagenet import ImageNetReport as ImageNetReport
from .imagenet import load_imagenet_backbone as load_imagenet_backbone
from .official import from_official as from_official
from .official import to_official as to_official
