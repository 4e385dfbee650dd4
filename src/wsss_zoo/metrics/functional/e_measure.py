"""Enhanced-alignment measure of a selection of pixels (Fan et al., IJCAI 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from wsss_zoo.metrics.functional.saliency_histogram import ThresholdCounts

EPS = torch.finfo(torch.float64).eps


def e_measure(counts: ThresholdCounts) -> Tensor:
    """Mean enhanced alignment of the selected pixels with the object.

    The alignment of a pixel depends only on whether it is selected and whether it is of the object, so it
    is found for these four kinds of pixels (equations 3 to 5 of the paper). The mean is over N - 1 pixels
    as in the authors' code: a perfect selection scores N / (N - 1).

    Args:
        counts: pixels at T thresholds.

    Returns:
        float64 `(B, T)`. Without object it is the share of pixels not selected; where all is object, the
        share of selected ones.
    """
    hit, selected, positive, total = counts
    missed = positive - hit
    share_selected, share_object = selected / total, positive / total
    pixels = torch.stack([hit, selected - hit, missed, total - selected - missed])
    selected_bias = torch.stack([1 - share_selected, -share_selected]).repeat_interleave(2, 0)
    object_bias = torch.stack([1 - share_object, -share_object]).repeat(2, 1, 1)
    squares = selected_bias**2 + object_bias**2
    alignment = 2 * selected_bias * object_bias / (squares + EPS)
    aligned = (pixels * (1 + alignment) ** 2 / 4).sum(0)
    aligned = torch.where(positive == 0, total - selected, aligned)
    aligned = torch.where(positive == total, selected, aligned)
    return aligned / (total - 1 + EPS)
