# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .cards import CardFacts as CardFacts
from .cards import make_model_card as make_model_card
from .pushing import Push as Push
from .pushing import check_loading as check_loading
from .pushing import push_folder as push_folder
