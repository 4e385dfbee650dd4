"""Cross entropy against masks, at the size of the logits or of the masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255


def shrink_labels(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest resize by PIL's rule, which the DeepLab v2 port trains with.

    Output pixel i takes input pixel floor((i + 0.5) * input / output); torch's "nearest" takes
    floor(i * input / output), a shift of up to one pixel.

    Args:
        mask: integers `(B, H, W)`.
        size: `(h, w)`.

    Returns:
        `(B, h, w)`.
    """
    for axis, target in zip((1, 2), size, strict=True):
        source = mask.shape[axis]
        # (2i + 1) * source // (2 * target) is the floor above in exact integers
        steps = torch.arange(target, device=mask.device)
        mask = mask.index_select(axis, (2 * steps + 1) * source // (2 * target))
    return mask


def segmentation_loss(
    logits: Tensor, mask: Tensor, at: Literal["logits", "mask"] = "mask", align_corners: bool = False
) -> Tensor:
    """Cross entropy, mean over pixels that are not ignored; 0 where all are.

    Args:
        logits: `(B, C + 1, h, w)`.
        mask: int64 `(B, H, W)`, 0 background, 1..C, 255 ignored.
        at: shrink the mask to the logits (DeepLab v1, v2) or enlarge the logits to the mask (v3).
        align_corners: of the enlargement.
    """
    if at == "logits":
        mask = shrink_labels(mask, logits.shape[2:])
    else:
        logits = F.interpolate(logits, mask.shape[1:], mode="bilinear", align_corners=align_corners)
    total = F.cross_entropy(logits, mask, ignore_index=IGNORE, reduction="sum")
    return total / (mask != IGNORE).sum().clamp(min=1)


def multi_scale_loss(outputs: Sequence[Tensor], mask: Tensor) -> Tensor:
    """DeepLab v2: the sum of the cross entropies of every scale and of their maximum."""
    return torch.stack([segmentation_loss(logits, mask, at="logits") for logits in outputs]).sum()
