"""Inference of SSDD: the image squashed to a square, several scales and mirrors, a second softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def squash(image: Tensor, side: int | None) -> Tensor:
    """Resize an image `(1, 3, H, W)` to a square, whatever its aspect (bilinear); None leaves it as it is."""
    if side is None or image.shape[2:] == (side, side):
        return image
    return F.interpolate(image, (side, side), mode="bilinear", align_corners=False)


def summed_probabilities(
    segment: Callable[[Tensor], Tensor], image: Tensor, scales: Sequence[float], flip: bool = True
) -> Tensor:
    """Probabilities of all scales, and of all mirrored, added up.

    Args:
        segment: images -> probabilities `(B, C + 1, h, w)` at their size.
        image: `(1, 3, H, W)`, normalised; resized bilinearly.
        scales: factors of its size.
        flip: add the mirrored image at every scale.

    Returns:
        `(C + 1, H, W)`; the planes add up to the number of scales, twice that with mirrors.
    """
    size = image.shape[2:]
    total = torch.zeros((), device=image.device)
    for scale in scales:
        scaled = F.interpolate(
            image, [max(1, round(side * scale)) for side in size], mode="bilinear", align_corners=False
        )
        batch = torch.cat([scaled, scaled.flip(3)]) if flip else scaled
        planes = F.interpolate(segment(batch).float(), size, mode="bilinear", align_corners=False)
        total = total + (planes[0] + planes[1].flip(2) if flip else planes[0])
    return total


def final_probabilities(summed: Tensor, size: Sequence[int]) -> Tensor:
    """Resize sums of probabilities and put them through a second softmax, as the release does.

    The label does not depend on it, the CRF that follows does: with ten maps added up, a pixel on which all
    agree gets a probability near 1, one on which they do not gets a flat distribution.

    Args:
        summed: `(C + 1, h, w)`, see `summed_probabilities`.
        size: `(H, W)` of the image.

    Returns:
        `(C + 1, H, W)`, sums to 1.
    """
    return F.interpolate(summed[None], tuple(size), mode="bilinear", align_corners=False)[0].softmax(0)
