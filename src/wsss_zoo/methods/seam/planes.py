"""Arithmetic on stacks of class planes `(B, C + 1, H, W)`; plane 0 is the background."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: Keeps divisions finite, everywhere in the official code.
EPSILON = 1e-5


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, the centres of the corner pixels on each other: the resize that SEAM uses inside.

    Args:
        maps: `(B, C, H, W)`.
        size: `(h, w)`.
    """
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=True)


def image_scores(maps: Tensor) -> Tensor:
    """Means over positions of the classes, `(B, C + 1, H, W)` -> `(B, C)`."""
    return F.adaptive_avg_pool2d(maps[:, 1:], 1).flatten(1)


def normalise_planes(maps: Tensor) -> Tensor:
    """Every plane from its minimum to its maximum onto [0, 1), after rectification.

    `relu(q - min q - e) / (max q - min q + e)` with `q = relu(maps)` and `e = 1e-5`; the gradient passes
    through minimum and maximum as well. The official inference omits the outer relu, which leaves values
    below zero where this function gives zero, and is the same elsewhere.

    Args:
        maps: `(..., H, W)`.
    """
    maps = F.relu(maps)
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return F.relu(maps - (low + EPSILON)) / (high - low + EPSILON)


def suppress_non_maximum(maps: Tensor) -> Tensor:
    """At each position keep the strongest class and set the others to 0.

    Classes that tie are all kept. The background takes no part and stays as it is.

    Args:
        maps: `(B, C + 1, H, W)`.
    """
    foreground = maps[:, 1:]
    strongest = foreground == foreground.amax(1, keepdim=True)
    return torch.cat([maps[:, :1], foreground * strongest], 1)


def with_background(maps: Tensor) -> Tensor:
    """Plane 0 replaced by `1 - max` over the classes.

    Args:
        maps: `(B, C + 1, H, W)`.
    """
    foreground = maps[:, 1:]
    return torch.cat([1 - foreground.amax(1, keepdim=True), foreground], 1)


@torch.no_grad()
def clean_planes(activations: Tensor) -> Tensor:
    """What the pixel correlation module refines: classifier activations, scaled, one class a position.

    `relu(p - e) / (max p + e)` with `p = relu(activations)`, the background from the classes, then only the
    strongest class at each position. There is no gradient, and no image label is involved.

    Args:
        activations: `(B, C + 1, h, w)`, the classifier applied at every position.

    Returns:
        `(B, C + 1, h, w)` in [0, 1].
    """
    positive = F.relu(activations)
    maxima = positive.amax((-2, -1), keepdim=True) + EPSILON
    return suppress_non_maximum(with_background(F.relu(positive - EPSILON) / maxima))
