"""Masks on the grid on which SSDD works: smaller ones, and those that a network predicts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def shrink_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Resize masks as SSDD resizes its seeds: one plane a label, bilinear, the highest wins.

    For a quarter of the size that is a vote of the four pixels in the middle of each cell; the lowest label
    wins a tie. 255 has a plane as any other value.

    Args:
        mask: integers `(B, H, W)`, 0 to 255.
        size: `(h, w)`.

    Returns:
        `(B, h, w)`, of the type of `mask`.
    """
    values = mask.unique()
    planes = (mask[:, None] == values[:, None, None]).float()
    winners = F.interpolate(planes, tuple(size), mode="bilinear", align_corners=False).argmax(1)
    return values[winners]


def restricted_mask(logits: Tensor, labels: Tensor) -> Tensor:
    """The most likely of the labels that an image has.

    Softmax over all labels, then only those of the image are compared. 1e-4 is added to each of them, so that
    they also win where all their probabilities vanish.

    Args:
        logits: `(B, C + 1, h, w)`.
        labels: `(B, C + 1)`, 0 and 1, see `with_background`.

    Returns:
        int64 `(B, h, w)`.
    """
    present = labels[:, :, None, None].float()
    return (logits.float().softmax(1) * present + 1e-4 * present).argmax(1)


def with_background(labels: Tensor) -> Tensor:
    """Image-level labels `(B, C)` with the background, which every image has: `(B, C + 1)`."""
    return F.pad(labels, (1, 0), value=1.0)


def one_hot(mask: Tensor, num_labels: int) -> Tensor:
    """Planes `(B, num_labels, h, w)` of masks `(B, h, w)`, float32; other values, such as 255, have none."""
    labels = torch.arange(num_labels, device=mask.device)
    return (mask[:, None] == labels[:, None, None]).float()
