"""SC-CAM: a classifier of sub-categories beside the classifier of classes; importing this needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wsss_zoo.methods.sccam.labels import AssembledLabels, assemble_labels, rows_of_classes

if TYPE_CHECKING:
    from wsss_zoo.methods.sccam.losses import joint_losses
    from wsss_zoo.methods.sccam.network import merge_subcategories

_LOCATIONS = {"joint_losses": "losses", "merge_subcategories": "network"}

__all__ = ["AssembledLabels", "assemble_labels", "joint_losses", "merge_subcategories", "rows_of_classes"]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.methods.sccam.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.methods.sccam' has no attribute {name!r}")
