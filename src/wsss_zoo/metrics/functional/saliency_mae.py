"""Mean absolute error of saliency maps (Perazzi et al., "Saliency Filters", CVPR 2012)."""

from __future__ import annotations

from torch import Tensor

from wsss_zoo.metrics.functional.saliency_histogram import SaliencyHistogram


def saliency_mae(histogram: SaliencyHistogram) -> Tensor:
    """Mean distance of the stretched map to the mask.

    Returns:
        float64 `(B,)` in [0, 1].
    """
    background, foreground = histogram.counts.unbind(1)
    error = background * histogram.values + foreground * (1 - histogram.values)
    return error.sum(1) / histogram.members.sum(1)
