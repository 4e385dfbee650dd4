"""Loss of the multi-label classifier under DCSM."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def multilabel_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Independent sigmoid cross entropy of every class: summed over classes, mean over images (Caffe's).

    Args:
        logits: `(B, C)`.
        labels: `(B, C)` with 0 and 1.
    """
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)
