"""F-measure of a selection of pixels (Achanta et al., "Frequency-tuned Salient Region Detection", 2009)."""

from __future__ import annotations

import torch
from torch import Tensor

from wsss_zoo.metrics.functional.saliency_histogram import ThresholdCounts

#: How much recall weighs against precision: the value of the paper, used by the whole field.
BETA2 = 0.3


def precision_recall(counts: ThresholdCounts) -> tuple[Tensor, Tensor]:
    """Precision and recall, float64 `(B, T)` in [0, 1]; 0 where nothing is selected or there is no object."""
    precision = counts.true_positive / counts.selected.clamp(min=1)
    recall = counts.true_positive / counts.positive.clamp(min=1)
    return precision, recall


def f_measure(precision: Tensor, recall: Tensor, beta2: float = BETA2) -> Tensor:
    """Weighted harmonic mean of precision and recall, 0 where both are 0.

    Args:
        precision: float64, any shape.
        recall: the same shape.
        beta2: weight of the recall.
    """
    product = (1 + beta2) * precision * recall
    return product / torch.where(product > 0, beta2 * precision + recall, 1.0)
