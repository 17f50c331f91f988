# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Label maps, scores and attention as pictures that a person can read. Each name is imported when it is first used."""

from typing import TYPE_CHECKING

from ..lazy_attributes import import_when_used

if TYPE_CHECKING:
    from .attention import RecordedAttention, draw_prototype_weights, draw_rectangular_attention, record_attention
    from .colors import Color, PaletteName, class_color, class_colors
    from .heat_maps import draw_class_heat_map, draw_entropy_map, draw_heat_map
    from .legends import draw_legend
    from .overlays import color_label_map, draw_overlay, find_boundaries
    from .side_by_side import draw_side_by_side

_MODULE_OF_NAME = {
    "Color": "colors",
    "PaletteName": "colors",
    "RecordedAttention": "attention",
    "class_color": "colors",
    "class_colors": "colors",
    "color_label_map": "overlays",
    "draw_class_heat_map": "heat_maps",
    "draw_entropy_map": "heat_maps",
    "draw_heat_map": "heat_maps",
    "draw_legend": "legends",
    "draw_overlay": "overlays",
    "draw_prototype_weights": "attention",
    "draw_rectangular_attention": "attention",
    "draw_side_by_side": "side_by_side",
    "find_boundaries": "overlays",
    "record_attention": "attention",
}

__all__ = [
    "Color",
    "PaletteName",
    "RecordedAttention",
    "class_color",
    "class_colors",
    "color_label_map",
    "draw_class_heat_map",
    "draw_entropy_map",
    "draw_heat_map",
    "draw_legend",
    "draw_overlay",
    "draw_prototype_weights",
    "draw_rectangular_attention",
    "draw_side_by_side",
    "find_boundaries",
    "record_attention",
]


__getattr__ = import_when_used(__name__, _MODULE_OF_NAME)
