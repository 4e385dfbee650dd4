"""Metrics as torchmetrics classes that synchronise over ranks; functional twins in `metrics.functional`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wsss_zoo.metrics.e_measure import EMeasure
    from wsss_zoo.metrics.error_by_distance import ErrorByDistance
    from wsss_zoo.metrics.f_measure import FMeasure
    from wsss_zoo.metrics.mae import MAE
    from wsss_zoo.metrics.mean_iou import MeanIoU
    from wsss_zoo.metrics.s_measure import SMeasure
    from wsss_zoo.metrics.saliency_metrics import SaliencyMetrics
    from wsss_zoo.metrics.seed_quality import SeedQuality
    from wsss_zoo.metrics.threshold_sweep import ThresholdSweep
    from wsss_zoo.metrics.weighted_f_measure import WeightedFMeasure

_LOCATIONS = {
    "MAE": "mae",
    "EMeasure": "e_measure",
    "ErrorByDistance": "error_by_distance",
    "FMeasure": "f_measure",
    "MeanIoU": "mean_iou",
    "SMeasure": "s_measure",
    "SaliencyMetrics": "saliency_metrics",
    "SeedQuality": "seed_quality",
    "ThresholdSweep": "threshold_sweep",
    "WeightedFMeasure": "weighted_f_measure",
}

__all__ = [
    "MAE",
    "EMeasure",
    "ErrorByDistance",
    "FMeasure",
    "MeanIoU",
    "SMeasure",
    "SaliencyMetrics",
    "SeedQuality",
    "ThresholdSweep",
    "WeightedFMeasure",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(f"wsss_zoo.metrics.{_LOCATIONS[name]}"), name)
    raise AttributeError(f"module 'wsss_zoo.metrics' has no attribute '{name}'")
