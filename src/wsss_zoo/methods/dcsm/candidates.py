"""Which classes get maps, and which others are subtracted from them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wsss_zoo.methods.dcsm.maps import Variant


class Candidates(NamedTuple):
    """The classes of one image.

    Attributes:
        targets: bool `(S, C)`: classes that get a map out of this scale.
        compared: int64 `(N,)`, ascending: the targets of all scales and what is subtracted besides.
    """

    targets: Tensor
    compared: Tensor


def choose_candidates(
    logits: Tensor,
    labels: Tensor | None = None,
    *,
    variant: Variant = "reference",
    threshold: float = 0.5,
    compared_classes: int = 4,
    fallback: Literal["best", "background"] = "best",
) -> Candidates:
    """Choose by image-level labels where there are any, otherwise by the network's own scores.

    By scores, as published: a class is a target at each scale at which its probability is above the
    threshold; the Caffe release takes the best `compared_classes` classes, whatever they score. By labels:
    the labelled classes at all scales. Where the targets are fewer than `compared_classes`, the best of the
    others are subtracted besides, ranked by the sum over scales of their probabilities (caffe: logits).

    Args:
        logits: `(S, C)`, the maxima over positions at each scale.
        labels: `(C,)`, 0 and 1.
        variant: see `wsss_zoo.methods.dcsm.maps.Variant`.
        threshold: of the probability.
        compared_classes: least number of compared classes, targets included.
        fallback: without labels, when no class passes the threshold: `best`, the best class at all scales; or
            `background`, no class (the release yields nothing then).
    """
    probabilities = logits.sigmoid()
    ranking = (logits if variant == "caffe" else probabilities).sum(0)
    order = torch.argsort(ranking, descending=True, stable=True)
    if labels is not None:
        targets = (labels > 0).to(logits.device).expand_as(logits)
    elif variant == "caffe":
        targets = torch.zeros_like(logits, dtype=torch.bool)
        targets[:, order[: max(1, compared_classes)]] = True
    else:
        targets = probabilities > threshold
        if fallback == "best" and not targets.any():
            targets = torch.zeros_like(targets)
            targets[:, order[0]] = True
    compared = targets.any(0)
    if compared.any():
        missing = max(0, compared_classes - int(compared.sum()))
        compared = compared.clone()
        compared[order[~compared[order]][:missing]] = True
    return Candidates(targets, torch.nonzero(compared).flatten())
