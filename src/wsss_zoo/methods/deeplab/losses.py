"""Cross entropy against masks, at the size of the logits or of the masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, repeat
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255


def shrink_labels(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Nearest resize by Pillow's rule, which the DeepLab v2 port trains with.

    Output pixel i takes input pixel floor((i + 0.5) * input / output); torch's "nearest" takes
    floor(i * input / output), a shift of up to one pixel.

    Args:
        mask: integers `(B, H, W)`.
        size: `(h, w)`.

    Returns:
        `(B, h, w)`.
    """
    for axis, target in zip((1, 2), size, strict=True):
        index = torch.tensor(_pillow_nearest(mask.shape[axis], target), device=mask.device)
        mask = mask.index_select(axis, index)
    return mask


@lru_cache(maxsize=256)
def _pillow_nearest(source: int, target: int) -> tuple[int, ...]:
    # Pillow adds the step up in double precision. Where (i + 0.5) * step is a whole number, rounding decides
    # which pixel is taken, so the same additions are done here instead of a product.
    step = source / target
    return tuple(int(position) for position in accumulate(repeat(step, target - 1), initial=0.5 * step))


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
    """DeepLab v2: the sum of the cross entropies of every scale and of their maximum.

    Args:
        outputs: logits of each scale at their own size, then their maximum.
        mask: int64 `(B, H, W)`, shrunk to each.
    """
    return torch.stack([segmentation_loss(logits, mask, at="logits") for logits in outputs]).sum()
