"""From derivatives to distinct class-specific maps: channel maxima, subtraction, squashing, merging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

#: `reference`: the MatConvNet release, with which the paper's experiments were run, and the poster.
#: `caffe`: the Caffe release, which differs in detail.
Variant: TypeAlias = Literal["reference", "caffe"]


def channel_maxima(derivative: Tensor, variant: Variant = "reference") -> Tensor:
    """`(K, channels, h, w)` -> `(K, h, w)`: the largest absolute value (caffe: the largest value)."""
    if variant == "caffe":
        return derivative.amax(1)
    least, most = derivative.aminmax(dim=1)
    return torch.maximum(-least, most)


def squash(maps: Tensor, alpha: float) -> Tensor:
    """`tanh(alpha x / max x)` of each map `(..., H, W)`; a map without a positive value becomes zero.

    (The MatConvNet release divides by a maximum below zero, too, which turns the map inside out.)
    """
    return torch.tanh(alpha * _over_peak(maps))


def layer_evidence(
    maxima: Tensor,
    size: int | tuple[int, int],
    variant: Variant = "reference",
    *,
    targets: Sequence[int] | None = None,
    alpha: float = 3.0,
    subtract: bool = True,
) -> Tensor:
    """What one layer at one scale says about where classes are and others are not.

    Reference (Shimoda & Yanai, ECCV 2016): `sum over c' != c of max(0, tanh(alpha D / max D))` with
    `D = M^c - M^c'` of enlarged maps. Caffe: the same sum without the clipping and on the layer's own grid,
    then squashed once more and enlarged. A pair in which c is nowhere above c' adds nothing.

    Args:
        maxima: `(K, h, w)` of the compared classes, see `channel_maxima`.
        size: of the result, `(H, W)` or the side of a square.
        variant: see `Variant`.
        targets: positions (0..K-1) of the classes whose maps are wanted; None: all.
        alpha: of `squash`.
        subtract: otherwise `D = M^c`, and the other classes do not matter.

    Returns:
        `(T, H, W)`, in the order of the targets; of one class alone, with `subtract`, zero.
    """
    height, width = (size, size) if isinstance(size, int) else size
    chosen = range(len(maxima)) if targets is None else targets
    planes = maxima if variant == "caffe" else _enlarge(maxima, height, width)
    evidence = planes.new_zeros(len(chosen), *planes.shape[1:])
    for row, target in enumerate(chosen):
        others = torch.arange(len(planes), device=planes.device) != target
        differences = planes[target] - planes[others] if subtract else planes[target][None]
        squashed = squash(differences, alpha)
        evidence[row] = (squashed if variant == "caffe" else squashed.clamp(min=0)).sum(0)
    if variant == "caffe":
        return _enlarge_from_corner(squash(evidence, alpha), height, width)
    return evidence


def finish(evidence: Tensor, variant: Variant = "reference", alpha: float = 3.0) -> Tensor:
    """Maps from evidence that was summed over layers and scales.

    Args:
        evidence: `(K, H, W)`, cropped to the image.
        variant: reference: `tanh(alpha A / max A)`; caffe: `max(0, A / max A)`.
        alpha: see above.

    Returns:
        `(K, H, W)` in [0, 1]; zero for a class without evidence.
    """
    return _over_peak(evidence).clamp(min=0) if variant == "caffe" else squash(evidence, alpha)


def union_map(evidence: Tensor, alpha: float = 3.0) -> Tensor:
    """Where any of the classes is, for looking at: `tanh(alpha u / max u)`, u the largest of `A / max A`.

    Args:
        evidence: `(K, H, W)`, cropped to the image, not negative (that of the reference).
        alpha: see `squash`.

    Returns:
        `(H, W)` in [0, 1]; zero where there is no class, or none with evidence.
    """
    if len(evidence) == 0:
        return evidence.new_zeros(evidence.shape[1:])
    return squash(_over_peak(evidence).amax(0), alpha)


def merge_derivatives(
    derivatives: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    size: int | tuple[int, int],
    variant: Variant = "reference",
    *,
    alpha: float = 3.0,
    subtract: bool = True,
) -> Tensor:
    """The whole way from derivatives to maps, all classes against each other.

    Args:
        derivatives: layer -> `(K, channels, h, w)`; several scales as a sequence of such. Only the ratios
            within a layer and scale matter.
        size: of the maps, `(H, W)` or the side of a square.
        variant: see `Variant`.
        alpha: see `layer_evidence`.
        subtract: see `layer_evidence`.

    Returns:
        float `(K, H, W)` in [0, 1].
    """
    scales = [derivatives] if isinstance(derivatives, Mapping) else list(derivatives)
    layers = [derivative for scale in scales for derivative in scale.values()]
    evidence = [
        layer_evidence(channel_maxima(layer, variant), size, variant, alpha=alpha, subtract=subtract)
        for layer in layers
    ]
    return finish(torch.stack(evidence).sum(0), variant, alpha)


def background(maps: Tensor) -> Tensor:
    """Background score `(H, W)` of maps `(K, H, W)`: `1 - max over classes`; 1 where there is no class."""
    return 1 - maps.amax(0) if len(maps) else maps.new_ones(maps.shape[1:])


def _over_peak(maps: Tensor) -> Tensor:
    """Each map over its maximum; zero where that is not above zero."""
    peak = maps.amax((-2, -1), keepdim=True)
    return maps / torch.where(peak > 0, peak, 1.0) * (peak > 0)


def _enlarge(maps: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(maps[None], (height, width), mode="bilinear", align_corners=False)[0]


def _enlarge_from_corner(maps: Tensor, height: int, width: int) -> Tensor:
    """Bilinear as in DCSM's Caffe layer: pixel i reads position `i h / H`, without the half-pixel shift."""
    for axis, length in ((-2, height), (-1, width)):
        count = maps.shape[axis]
        position = torch.arange(length, device=maps.device, dtype=maps.dtype) * (count / length)
        low = position.long().clamp(max=count - 1)
        weight = position - low
        if axis == -2:
            weight = weight[:, None]
        first, second = maps.index_select(axis, low), maps.index_select(axis, (low + 1).clamp(max=count - 1))
        maps = first + (second - first) * weight
    return maps
