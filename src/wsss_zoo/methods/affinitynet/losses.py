"""Labels of pairs from two soft label sets, and the balanced loss (PSA, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wsss_zoo.refine.pixel_pairs import PixelPairs

#: Label of cells from which nothing is learnt.
IGNORE = 255
#: Cells whose scores are all below lie in padding (or have no scores).
_NO_SCORE = 1e-5
#: In the logarithms and beside the counts, as in PSA's code.
_EPSILON = 1e-5


class PairLabels(NamedTuple):
    """What is known about pairs; bool `(B, offsets, sources)` each, at most one of them true.

    Attributes:
        background: both cells are background.
        foreground: both cells are of the same class.
        negative: the cells are of different classes, or one of a class and one background.
    """

    background: Tensor
    foreground: Tensor
    negative: Tensor

    def counts(self) -> Tensor:
        """How many pairs of the batch are of each kind: float32 `(3,)`."""
        return torch.stack([kind.sum() for kind in self]).float()


class AffinityLoss(NamedTuple):
    """The loss and its terms, scalars; terms without a pair are 0."""

    total: Tensor
    background: Tensor
    foreground: Tensor
    negative: Tensor


def confident_labels(low: Tensor, high: Tensor) -> Tensor:
    """Labels of cells of which both score sets are sure.

    Foreground is what wins even against the strong background (`low`); background what wins even as the
    weak one (`high`), and it overrules. The rest is ignored.

    Args:
        low: `(B, C + 1, h, w)`, scores with strong background (low alpha), plane 0 background, pooled to the
            grid; planes of absent classes 0.
        high: the same with weak background.

    Returns:
        int64 `(B, h, w)`: 0 background, 1..C, 255 ignored.
    """
    labels = low.argmax(1)
    labels[labels == 0] = IGNORE
    labels[high.argmax(1) == 0] = 0
    labels[torch.maximum(low.amax(1), high.amax(1)) < _NO_SCORE] = IGNORE
    return labels


def pair_labels(labels: Tensor, pairs: PixelPairs) -> PairLabels:
    """Sort pairs by the labels of their cells.

    Args:
        labels: int64 `(B, h, w)`, 0 background, 1..C, 255 ignored.
        pairs: pairs of this grid.
    """
    cells = labels.flatten(1)
    source = cells[:, None, pairs.source_indices(labels.device)]
    destination = cells[:, pairs.destination_indices(labels.device)]
    same, known = source == destination, (source != IGNORE) & (destination != IGNORE)
    background = source == 0
    return PairLabels(same & background, same & known & ~background, ~same & known)


def affinity_loss(affinities: Tensor, labels: PairLabels, counts: Tensor | None = None) -> AffinityLoss:
    """`L_background / 4 + L_foreground / 4 + L_negative / 2`, means over the pairs of each kind.

    `-log(W + 1e-5)` for pairs that belong together, `-log(1 + 1e-5 - W)` for the others, W the affinity.

    Args:
        affinities: `(B, offsets, sources)` in (0, 1].
        labels: of these pairs.
        counts: `(3,)`, what the sums are divided by; None counts the pairs of this batch. Where a batch is
            spread over devices whose gradients are averaged, the mean over devices makes it the loss of
            the whole batch.
    """
    counts = labels.counts() if counts is None else counts
    attract, repel = -torch.log(affinities + _EPSILON), -torch.log(1 + _EPSILON - affinities)
    background, foreground, negative = (
        (kind * loss).sum() / (count + _EPSILON)
        for kind, loss, count in zip(labels, (attract, attract, repel), counts, strict=True)
    )
    total = background / 4 + foreground / 4 + negative / 2
    return AffinityLoss(total, background, foreground, negative)
