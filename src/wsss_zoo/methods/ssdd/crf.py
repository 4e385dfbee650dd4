"""The dense CRF inside the training of SSDD's dynamic stage, for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.normalization import Normalization
from wsss_zoo.refine.dense_crf import DenseCRF


def crf_images(images: Tensor, size: Sequence[int], normalization: Normalization) -> Tensor:
    """Bring network input back to 8-bit colours at the size of the CRF.

    Args:
        images: `(B, 3, H, W)`, normalised.
        size: `(h, w)`, bilinear.
        normalization: of the network.

    Returns:
        uint8 `(B, 3, h, w)`, RGB, cut to whole numbers as in the release (not rounded).
    """
    mean, std = (
        torch.tensor(values, device=images.device)[:, None, None]
        for values in (normalization.mean, normalization.std)
    )
    pixels = F.interpolate(images.float() * std + mean, tuple(size), mode="bilinear", align_corners=False)
    if normalization.bgr:
        pixels = pixels.flip(1)
    return pixels.clamp(0, 255).to(torch.uint8)


def online_crf(images: Tensor, logits: Tensor, labels: Tensor, crf: DenseCRF) -> Tensor:
    """Dense CRF of predictions, restricted to the labels of each image.

    The softmax runs over the labels of the image alone. Images are inferred in parallel (threads on a CPU,
    one batch on a GPU), see `DenseCRF`.

    Args:
        images: uint8 `(B, 3, h, w)`, RGB.
        logits: `(B, C + 1, h, w)`.
        labels: `(B, C + 1)`, 0 and 1, background included.
        crf: the official setting is `DenseCRF("ssdd_online")`.

    Returns:
        Marginals float32 `(B, C + 1, h, w)`, 0 for labels that the image has not.
    """
    rows = [torch.nonzero(row > 0).flatten() for row in labels]
    planes = [scores[row].float().softmax(0) for scores, row in zip(logits.detach(), rows, strict=True)]
    marginals = torch.zeros_like(logits, dtype=torch.float32)
    for index, (row, result) in enumerate(zip(rows, crf(list(images), planes), strict=True)):
        marginals[index, row] = result
    return marginals
