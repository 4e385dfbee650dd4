"""Binary cross entropy with soft targets for every map, soft IoU for the saliency maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.errors import WsssZooError


def soft_iou_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over images of `1 - (sum(p t) + 1) / (sum(p) + sum(t) - sum(p t) + 1)`, p the sigmoid.

    The sums run over the pixels of one image. The 1 keeps images without object finite.

    Args:
        logits: `(B, ...)`.
        target: the same shape, in [0, 1].
    """
    probability = _at_least_float32(logits).sigmoid().flatten(1)
    target = target.to(probability.dtype).flatten(1)
    intersection = (probability * target).sum(1)
    union = probability.sum(1) + target.sum(1) - intersection
    return (1 - (intersection + 1) / (union + 1)).mean()


def decoupled_loss(outputs: Sequence[Tensor], body: Tensor, detail: Tensor, saliency: Tensor) -> Tensor:
    """The loss of LDF: the mean over passes of `bce(body) + bce(detail) + bce(saliency) + iou(saliency)`.

    Differences from the paper: the IoU term and the mean over passes, instead of their sum, are
    those of the authors' release. Evaluated in float32 whatever the precision of the network.

    Args:
        outputs: logits `(B, 1, H, W)`: body, detail and saliency of the first pass, then of the next.
        body: what the first branch should give, in [0, 1], not thresholded: `(B, H, W)` or `(B, 1, H, W)`.
        detail: the same for the second branch.
        saliency: the same for the saliency maps.

    Raises:
        WsssZooError: a target has another size than the logits.
    """
    terms = []
    for index, logits in enumerate(outputs):
        target = _like(logits, (body, detail, saliency)[index % 3])
        terms.append(F.binary_cross_entropy_with_logits(_at_least_float32(logits), target))
        if index % 3 == 2:
            terms.append(soft_iou_loss(logits, target))
    return torch.stack(terms).sum() / (len(outputs) // 3)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _like(logits: Tensor, target: Tensor) -> Tensor:
    """The target with the shape of the logits, at least in float32."""
    if len(target) != len(logits) or target.shape[-2:] != logits.shape[-2:]:
        raise WsssZooError(
            f"LDF: expected targets of {len(logits)} images of {logits.shape[-2]} x {logits.shape[-1]} "
            f"pixels, got {tuple(target.shape)}; resize body, detail and mask with the image"
        )
    return target.reshape(logits.shape).to(torch.promote_types(logits.dtype, torch.float32))
