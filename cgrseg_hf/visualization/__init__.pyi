# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
from .attention import RecordedAttention as RecordedAttention
from .attention import draw_rectangular_attention as draw_rectangular_attention
from .attention import record_attention as record_attention
from .colors import Color as Color
from .colors import PaletteName as PaletteName
from .colors import class_color as class_color
from .colors import class_colors as class_colors
from .heat_maps import draw_class_heat_map as draw_class_heat_map
from .heat_maps import draw_entropy_map as draw_entropy_map
from .heat_maps import draw_heat_map as draw_heat_map
from .legends import draw_legend as draw_legend
from .overlays import color_label_map as color_label_map
from .overlays import draw_overlay as draw_overlay
from .overlays import find_boundaries as find_boundaries
from .plots import draw_prototype_weights as draw_prototype_weights
from .side_by_side import draw_side_by_side as draw_side_by_side
