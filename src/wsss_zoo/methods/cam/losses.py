"""Loss of the multi-label classifier."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def multilabel_soft_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over batch and classes of `-[y log s(x) + (1 - y) log(1 - s(x))]`, s the sigmoid.

    Args:
        logits: `(B, C)`.
        labels: `(B, C)` with 0 and 1.
    """
    return F.binary_cross_entropy_with_logits(logits, labels)
