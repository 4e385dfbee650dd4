"""Losses of SEC and DSRG on score maps: seed, constrain-to-boundary, expand, and full supervision.

P is a map of class probabilities as `smooth_probabilities` makes it, so that every logarithm here is bounded.
S are seeds: 0 or 1, and a pixel may carry none, one or several. Plane 0 is background.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Added to every class probability before it is normalised again (SEC's and DSRG's code).
SMOOTHING = 1e-4
#: The least number of seeds that a sum is divided by (DSRG's code).
_FEWEST = 1e-4


def smooth_probabilities(logits: Tensor, smoothing: float = SMOOTHING) -> Tensor:
    """`softmax + 1e-4`, normalised again: no probability below 1e-4 / (1 + (C + 1) 1e-4).

    Args:
        logits: `(B, C + 1, h, w)`.
        smoothing: what is added.

    Returns:
        P `(B, C + 1, h, w)`, sums to 1 over classes. Gradients flow through the whole expression.
    """
    probabilities = logits.softmax(1) + smoothing
    return probabilities / probabilities.sum(1, keepdim=True)


def sec_seed(probabilities: Tensor, seeds: Tensor) -> Tensor:
    """Seed loss of SEC (Kolesnikov & Lampert, ECCV 2016, equation 1).

    `-sum S log P / sum S` over classes and pixels of an image, mean over images; an image without a seed
    counts 0.

    Args:
        probabilities: P `(B, C + 1, h, w)`.
        seeds: S `(B, C + 1, h, w)`.
    """
    return _seed_entropy(probabilities, seeds).mean()


def balanced_seed(probabilities: Tensor, seeds: Tensor) -> Tensor:
    """Balanced seed loss of DSRG (Huang et al., CVPR 2018, equation 1).

    `sec_seed` of the background plane alone, plus that of all foreground planes together: few seeds of the
    one weigh as much as many of the other. A part without a seed counts 0.

    Args:
        probabilities: P `(B, C + 1, h, w)`.
        seeds: S `(B, C + 1, h, w)`.
    """
    background = _seed_entropy(probabilities[:, :1], seeds[:, :1])
    foreground = _seed_entropy(probabilities[:, 1:], seeds[:, 1:])
    return (background + foreground).mean()


def constrain(
    probabilities: Tensor, log_marginals: Tensor, ratio_range: tuple[float, float] | None = (0.05, 20.0)
) -> Tensor:
    """Constrain-to-boundary loss: KL divergence from the network to its own dense CRF.

    Mean over images and pixels of `sum_c Q log(Q / P)` (SEC, equation 5; DSRG, equation 2).

    Args:
        probabilities: P `(B, C + 1, h, w)`.
        log_marginals: log Q `(B, C + 1, h, w)`, see `crf_log_marginals`.
        ratio_range: Q / P is clipped to it before the logarithm, as DSRG's code does; then the value is no
            longer a divergence and may be below 0, and clipped entries pass no gradient to P. None: as SEC.
    """
    marginals = log_marginals.exp()
    if ratio_range is None:
        log_ratio = log_marginals - probabilities.log()
    else:
        log_ratio = (marginals / probabilities).clamp(*ratio_range).log()
    return (marginals * log_ratio).sum(1).mean()


def expand(
    probabilities: Tensor,
    labels: Tensor,
    foreground_decay: float = 0.996,
    background_decay: float = 0.999,
) -> Tensor:
    """Expansion loss of SEC: classes of the image appear somewhere, others nowhere (ECCV 2016, equation 4).

    A class's score is the mean of its probabilities in descending order, weighted by decay^0, decay^1, ...
    (global weighted rank pooling: 0 is max pooling, 1 average pooling); of absent classes it is the maximum.

    Args:
        probabilities: P `(B, C + 1, h, w)`.
        labels: `(B, C)`, 0 and 1.
        foreground_decay: of present foreground classes.
        background_decay: of background, which is always present.

    Returns:
        The mean over images of `-mean log G` over present classes, `-mean log(1 - max)` over absent ones,
        and `-log G` of background. A group without a class counts 0.
    """
    ordered = probabilities.flatten(2).sort(dim=2, descending=True).values
    is_present = labels > 0
    # What does not count is made log(1) = 0 first: the maximum of a present class may come close to 1.
    pooled = _rank_pooled(ordered[:, 1:], foreground_decay).where(is_present, 1)
    largest = ordered[:, 1:, 0].where(~is_present, 0)
    present = -pooled.log().sum(1) / is_present.sum(1).clamp(min=1)
    absent = -torch.log1p(-largest).sum(1) / (~is_present).sum(1).clamp(min=1)
    background = -_rank_pooled(ordered[:, 0], background_decay).log()
    return (present + absent + background).mean()


def full(probabilities: Tensor, mask: Tensor) -> Tensor:
    """Loss of images whose mask is known (FickleNet, Lee et al., CVPR 2019: L_full).

    `-sum log P` of the true class over the labelled pixels of an image, divided by their number; mean over
    all images, where one without a labelled pixel counts 0. So an image weighs the same with few strong
    images beside it as with many.

    Args:
        probabilities: P `(B, C + 1, h, w)`.
        mask: int64 `(B, h, w)`, 0..C, 255 not labelled.
    """
    known = mask != 255
    log_true = probabilities.gather(1, mask.where(known, 0)[:, None])[:, 0].log()
    total = (log_true * known).sum((1, 2))
    return (-total / known.sum((1, 2)).clamp(min=1)).mean()


def _seed_entropy(probabilities: Tensor, seeds: Tensor) -> Tensor:
    """Mean of -log P over the seeds of an image, `(B,)`."""
    total = (seeds * probabilities.log()).sum((1, 2, 3))
    return -total / seeds.sum((1, 2, 3)).clamp(min=_FEWEST)


def _rank_pooled(ordered: Tensor, decay: float) -> Tensor:
    """Weighted mean over the last axis, which is sorted in descending order."""
    weights = decay ** torch.arange(ordered.shape[-1], device=ordered.device, dtype=ordered.dtype)
    return (ordered * weights).sum(-1) / weights.sum()
