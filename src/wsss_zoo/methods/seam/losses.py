"""The loss terms of SEAM (Wang et al., CVPR 2020, section 3.4), with the details of the official code.

Two views of a batch, the second smaller, give activations `c1, c2` and refined maps `r1, r2`:

1. classification: soft margin of the image scores of `c1` and of `c2`, averaged over the views;
2. min pooling: the weakest quarter of `r1` and of `r2` goes to zero, averaged over the views (in the code
   only: by the authors it moves the best background threshold, not the best mIoU);
3. equivariance (ER): the maps of `c1`, made smaller, are those of `c2`;
4. cross regularisation (ECR): the refined maps of each view are the maps of the other, at the fifth of the
   positions where they differ most (OHEM).

Terms 1 and 3 reach the backbone and the classifier, 2 and 4 only the pixel correlation module.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.methods.seam.planes import (
    image_scores,
    normalise_planes,
    resize,
    suppress_non_maximum,
    with_background,
)


def classification(scores: Tensor, labels: Tensor) -> Tensor:
    """Multi-label soft margin: mean over batch and classes of `-[y log s(x) + (1 - y) log(1 - s(x))]`.

    Args:
        scores: `(B, C)`, see `image_scores`; s is the sigmoid.
        labels: `(B, C)` with 0 and 1.
    """
    return F.multilabel_soft_margin_loss(scores, labels)


def min_pooling(refined: Tensor, labels: Tensor, fraction: float = 0.25) -> Tensor:
    """Mean of the smallest values of the strongest present class, negative ones counted as 0.

    Args:
        refined: `(B, C + 1, H, W)`, not normalised; the background does not count.
        labels: `(B, C)` with 0 and 1.
        fraction: share of the positions of each image that is taken, rounded down, at least one.
    """
    strongest = (refined[:, 1:] * labels[:, :, None, None]).amax(1).flatten(1)
    count = max(1, int(strongest.shape[1] * fraction))
    return F.relu(strongest.topk(count, largest=False, sorted=False).values).mean()


def comparable_maps(maps: Tensor, present: Tensor, size: Sequence[int]) -> Tensor:
    """Normalised maps of present planes at the size of the smaller view, zero for the others.

    Args:
        maps: `(B, C + 1, H, W)`, activations or refined maps.
        present: bool `(B, C + 1)`.
        size: `(h, w)`.

    Returns:
        `(B, C + 1, h, w)` in [0, 1).
    """
    # an image has one or two of the classes: only their planes are touched
    planes = normalise_planes(maps[present])
    if planes.shape[1:] != tuple(size):
        planes = resize(planes[:, None], size)[:, 0]
    return planes.new_zeros(*present.shape, *size).index_put(torch.nonzero(present, as_tuple=True), planes)


def equivariance(first: Tensor, second: Tensor) -> Tensor:
    """ER: mean absolute difference of the maps of two views, over batch, classes and positions.

    Args:
        first: `(B, C + 1, h, w)` of `comparable_maps`; the background does not count.
        second: the same of the other view.
    """
    return F.l1_loss(first[:, 1:], second[:, 1:])


def cross_regularisation(
    refined: tuple[Tensor, Tensor], maps: tuple[Tensor, Tensor], fraction: float | None = 0.2
) -> Tensor:
    """ECR: refined maps of each view against the maps of the other view; the sum of both directions.

    The maps are targets without gradient: background from the classes, and at each position only the
    strongest class.

    Args:
        refined: `(B, C + 1, h, w)` of each view, of `comparable_maps`.
        maps: the same for the activations.
        fraction: share of the planes and positions of each image, those that differ most, whose mean is
            taken (rounded down, at least one); None: all.
    """
    targets = [suppress_non_maximum(with_background(x.detach())) for x in maps]
    return hard_difference(targets[1], refined[0], fraction) + hard_difference(
        targets[0], refined[1], fraction
    )


def hard_difference(target: Tensor, refined: Tensor, fraction: float | None) -> Tensor:
    """Mean of the largest absolute differences of each image.

    Args:
        target: `(B, P, h, w)`.
        refined: `(B, P, h, w)`.
        fraction: share that is kept, rounded down, at least one; None: all.
    """
    difference = (target - refined).abs().flatten(1)
    if fraction is not None:
        count = max(1, int(difference.shape[1] * fraction))
        difference = difference.topk(count, sorted=False).values
    return difference.mean()


def seam_losses(
    views: Sequence[tuple[Tensor, Tensor | None]],
    labels: Tensor,
    *,
    er: bool = True,
    ohem_fraction: float | None = 0.2,
    min_pooling_fraction: float | None = 0.25,
) -> dict[str, Tensor]:
    """All terms of a training step.

    Args:
        views: what `SEAMNetwork` gave for each view, larger first; or one, for the classifier alone.
        labels: `(B, C)` with 0 and 1.
        er: with the equivariance term.
        ohem_fraction: of `cross_regularisation`.
        min_pooling_fraction: of `min_pooling`; None leaves the term out.

    Returns:
        The terms whose sum is the loss: `cls`, and where they apply `er`, and with refined maps `min`, `ecr`.
    """
    losses = {"cls": torch.stack([classification(image_scores(cam), labels) for cam, _ in views]).mean()}
    refined = [maps for _, maps in views if maps is not None]
    if refined and min_pooling_fraction is not None:
        terms = [min_pooling(maps, labels, min_pooling_fraction) for maps in refined]
        losses["min"] = torch.stack(terms).mean()
    if len(views) == 1:
        return losses
    size = views[1][0].shape[2:]
    present = F.pad(labels > 0, (1, 0))  # planes of the classes; the background is read off them
    first, second = (comparable_maps(cam, present, size) for cam, _ in views)
    if er:
        losses["er"] = equivariance(first, second)
    if refined:
        present = F.pad(labels > 0, (1, 0), value=True)
        compared = [comparable_maps(maps, present, size) for maps in refined]
        losses["ecr"] = cross_regularisation((compared[0], compared[1]), (first, second), ohem_fraction)
    return losses
