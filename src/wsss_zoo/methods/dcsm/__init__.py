"""DCSM: distinct class-specific maps by guided back-propagation; importing this needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.methods.dcsm.candidates import choose_candidates
    from wsss_zoo.methods.dcsm.canvas import Canvas
    from wsss_zoo.methods.dcsm.derivatives import class_derivatives
    from wsss_zoo.methods.dcsm.guided_relu import GuidedReLUs
    from wsss_zoo.methods.dcsm.maps import (
        background,
        channel_maxima,
        finish,
        layer_evidence,
        merge_derivatives,
        union_map,
    )

_LOCATIONS = {
    "Canvas": "canvas",
    "GuidedReLUs": "guided_relu",
    "background": "maps",
    "channel_maxima": "maps",
    "choose_candidates": "candidates",
    "class_derivatives": "derivatives",
    "finish": "maps",
    "layer_evidence": "maps",
    "merge_derivatives": "maps",
    "union_map": "maps",
}

__all__ = [
    "Canvas",
    "GuidedReLUs",
    "background",
    "channel_maxima",
    "choose_candidates",
    "class_derivatives",
    "finish",
    "layer_evidence",
    "merge_derivatives",
    "union_map",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.methods.dcsm.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.methods.dcsm' has no attribute {name!r}")
