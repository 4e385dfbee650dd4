"""Functional twins of the metric classes: counts in, counts or scores out, no state."""

from __future__ import annotations

from wsss_zoo.metrics.functional.confusion import confusion_matrix, iou_per_class, mean_iou, mean_over_classes
from wsss_zoo.metrics.functional.pixel_average_precision import pixel_average_precision, score_histogram
from wsss_zoo.metrics.functional.winner_histogram import confusion_at_thresholds, winner_histogram

__all__ = [
    "confusion_at_thresholds",
    "confusion_matrix",
    "iou_per_class",
    "mean_iou",
    "mean_over_classes",
    "pixel_average_precision",
    "score_histogram",
    "winner_histogram",
]
