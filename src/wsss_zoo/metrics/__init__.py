"""Metrics as torchmetrics classes that synchronise over ranks; functional twins in `metrics.functional`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.metrics.mean_iou import MeanIoU
    from wsss_zoo.metrics.threshold_sweep import ThresholdSweep

_LOCATIONS = {"MeanIoU": "mean_iou", "ThresholdSweep": "threshold_sweep"}

__all__ = ["MeanIoU", "ThresholdSweep"]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.metrics.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.metrics' has no attribute '{name}'")
