"""Functional twins of the metric classes: counts in, counts or scores out, no state."""

from __future__ import annotations

from wsss_zoo.metrics.functional.confusion import confusion_matrix, iou_per_class, mean_iou, mean_over_classes
from wsss_zoo.metrics.functional.e_measure import e_measure
from wsss_zoo.metrics.functional.error_by_distance import error_by_distance
from wsss_zoo.metrics.functional.f_measure import f_measure, precision_recall
from wsss_zoo.metrics.functional.pixel_average_precision import pixel_average_precision, score_histogram
from wsss_zoo.metrics.functional.s_measure import s_measure
from wsss_zoo.metrics.functional.saliency_histogram import SaliencyHistogram
from wsss_zoo.metrics.functional.saliency_mae import saliency_mae
from wsss_zoo.metrics.functional.saliency_pairs import (
    SaliencyProtocol,
    grey_levels,
    object_masks,
    saliency_batches,
)
from wsss_zoo.metrics.functional.weighted_f_measure import weighted_f_measure
from wsss_zoo.metrics.functional.winner_histogram import confusion_at_thresholds, winner_histogram

__all__ = [
    "SaliencyHistogram",
    "SaliencyProtocol",
    "confusion_at_thresholds",
    "confusion_matrix",
    "e_measure",
    "error_by_distance",
    "f_measure",
    "grey_levels",
    "iou_per_class",
    "mean_iou",
    "mean_over_classes",
    "object_masks",
    "pixel_average_precision",
    "precision_recall",
    "s_measure",
    "saliency_batches",
    "saliency_mae",
    "score_histogram",
    "weighted_f_measure",
    "winner_histogram",
]
