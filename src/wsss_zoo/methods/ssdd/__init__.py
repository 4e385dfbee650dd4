"""SSDD (Shimoda and Yanai, ICCV 2019): which of two masks to trust; importing this needs no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.methods.ssdd.crf import online_crf
    from wsss_zoo.methods.ssdd.difference import DifferenceDetector
    from wsss_zoo.methods.ssdd.integration import integrate, integration_score, vanished_classes
    from wsss_zoo.methods.ssdd.losses import balanced_bce, difference_loss
    from wsss_zoo.methods.ssdd.masks import restricted_mask, shrink_mask

_LOCATIONS = {
    "DifferenceDetector": "difference",
    "balanced_bce": "losses",
    "difference_loss": "losses",
    "integrate": "integration",
    "integration_score": "integration",
    "online_crf": "crf",
    "restricted_mask": "masks",
    "shrink_mask": "masks",
    "vanished_classes": "integration",
}

__all__ = [
    "DifferenceDetector",
    "balanced_bce",
    "difference_loss",
    "integrate",
    "integration_score",
    "online_crf",
    "restricted_mask",
    "shrink_mask",
    "vanished_classes",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.methods.ssdd.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.methods.ssdd' has no attribute {name!r}")
