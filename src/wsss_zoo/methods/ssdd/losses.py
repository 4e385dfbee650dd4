"""What SSDD learns from: cross entropy for segmentation, balanced binary cross entropy for differences."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.methods.deeplab.losses import IGNORE, segmentation_loss


def balanced_bce(logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Binary cross entropy of predicted differences, both sides weighing the same.

    Half the mean over pixels where the masks agree plus half the mean where they differ. A side without
    pixels has no part in it; the release gives NaN then, with the same gradient.

    Args:
        logits: `(N, 1, h, w)` or `(N, h, w)`: the difference is likely.
        first: integers `(N, h, w)`; pixels with 255 in either mask are left out.
        second: as `first`.

    Returns:
        `(N,)`, one number an image. To pool a batch, make it one image (`flatten`).
    """
    logits = (logits.squeeze(1) if logits.ndim == 4 else logits).float()
    differ = first != second
    known = (first != IGNORE) & (second != IGNORE)
    entropy = F.binary_cross_entropy_with_logits(logits, differ.float(), reduction="none")

    def mean(pixels: Tensor) -> Tensor:
        return (entropy * pixels).flatten(1).sum(1) / pixels.flatten(1).sum(1).clamp(min=1)

    return 0.5 * mean(known & ~differ) + 0.5 * mean(known & differ)


def difference_loss(logits: Tensor, first: Tensor, second: Tensor, flags: Tensor) -> Tensor:
    """`balanced_bce`, mean over the images in which no class vanishes; 0 where there is none.

    Args:
        logits: `(B, 1, h, w)` or `(B, h, w)`.
        first: integers `(B, h, w)`.
        second: as `first`.
        flags: `(B, C + 1)`, see `vanished_classes`.
    """
    kept = (flags.sum(1) == 0).float()
    return (balanced_bce(logits, first, second) * kept).sum() / kept.sum().clamp(min=1)


def pooled_difference_loss(logits: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """`balanced_bce` of all pixels of a batch together.

    Args:
        logits: `(B, 1, h, w)` or `(B, h, w)`.
        first: integers `(B, h, w)`.
        second: as `first`.
    """
    logits = logits.reshape(1, -1, logits.shape[-1])
    return balanced_bce(logits, first.flatten(0, 1)[None], second.flatten(0, 1)[None])[0]


def static_difference_loss(
    d_before: Tensor, d_after: Tensor, before: Tensor, after: Tensor, flags: Tensor
) -> Tensor:
    """`L_dd` of the static stage: both predictions of one difference, mean.

    Args:
        d_before: logits `(B, 1, h, w)`, from the first mask.
        d_after: from the second mask.
        before: integers `(B, h, w)`.
        after: as `before`.
        flags: `(B, C + 1)`.
    """
    losses = [difference_loss(logits, before, after, flags) for logits in (d_before, d_after)]
    return torch.stack(losses).mean()


def dynamic_segmentation_loss(
    main: Tensor, sub: Tensor | None, seeds: Tensor, refined: Tensor, alpha: float = 0.5
) -> Tensor:
    """`L_seg` of the dynamic stage.

    The main head learns the refined mask; the sub head learns the seeds with weight `alpha` and the refined
    mask with the rest. Without a sub head its term is the main head's.

    Args:
        main: logits `(B, C + 1, h, w)` of the main head.
        sub: of the sub head, or None.
        seeds: int64 `(B, h, w)`; 255 is left out.
        refined: as `seeds`.
        alpha: share of the seeds, 0..1.
    """
    mixed = main if sub is None else sub
    loss = alpha * segmentation_loss(mixed, seeds) + (1 - alpha) * segmentation_loss(mixed, refined)
    return loss if sub is None else segmentation_loss(main, refined) + loss


def dynamic_difference_loss(
    first: tuple[Tensor, Tensor],
    prediction: Tensor,
    crf: Tensor,
    flags: Tensor,
    second: tuple[Tensor, Tensor],
    sub: Tensor,
    seeds: Tensor,
    refined: Tensor,
) -> Tensor:
    """`L_dd` of the dynamic stage: mean of four terms.

    The first detector, which integrates prediction and CRF, learns where they differ; images in which a class
    vanishes are left out. The second, which integrates seeds and the result of the first, learns where the
    seeds differ from the sub head's mask, and where the refined mask does; pixels of a batch are pooled.

    Args:
        first: logits `(B, 1, h, w)` of the first detector from the prediction and from the CRF.
        prediction: integers `(B, h, w)`, mask of the main head.
        crf: mask of the online CRF.
        flags: `(B, C + 1)` of prediction and CRF.
        second: logits of the second detector from the seeds and from the first integration.
        sub: mask of the sub head.
        seeds: the mask that it began with.
        refined: the second integration.
    """
    losses = [difference_loss(logits, prediction, crf, flags) for logits in first]
    losses += [
        pooled_difference_loss(logits, mask, sub)
        for logits, mask in zip(second, (seeds, refined), strict=True)
    ]
    return torch.stack(losses).mean()
