"""One histogram an image, from which all threshold scores of salient object detection follow.

A score at a threshold only needs to know how many pixels of object and background lie at each of the 256
levels. So pixels are counted once, and the 256 thresholds of a curve are cumulative sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from wsss_zoo.metrics.functional.saliency_pairs import SaliencyBatch, SaliencyProtocol

#: Levels of an 8-bit image, and thresholds of a curve.
LEVELS = 256


class ThresholdCounts(NamedTuple):
    """Pixels of B images at T thresholds, float64."""

    #: `(B, T)`: selected pixels of the object.
    true_positive: Tensor
    #: `(B, T)`: selected pixels.
    selected: Tensor
    #: `(B, 1)`: pixels of the object.
    positive: Tensor
    #: `(B, 1)`: all pixels.
    total: Tensor


@dataclass(frozen=True)
class SaliencyHistogram:
    """How many pixels of B images lie at each level; all that MAE, F, E and S need to know.

    Attributes:
        quadrants: int64 `(B, 4, 2, 256)`: pixels by quadrant around the centroid of the object (upper
            left, upper right, lower left, lower right), membership (0 background, 1 object) and level.
        protocol: how the levels become values, see `SaliencyProtocol`.
        values: float64 `(B, 256)`: the value of each level once the image is stretched to [0, 1].
            Levels that the image does not have lie outside.
    """

    quadrants: Tensor
    protocol: SaliencyProtocol
    values: Tensor

    @classmethod
    def count(cls, batches: Iterable[SaliencyBatch], protocol: SaliencyProtocol) -> SaliencyHistogram:
        """Count the pixels of images, batch by batch."""
        quadrants = torch.cat([_count_levels(batch, protocol) for batch in batches])
        return cls(quadrants, protocol, _stretched(quadrants.sum((1, 2)), protocol))

    @cached_property
    def counts(self) -> Tensor:
        """float64 `(B, 2, 256)`: pixels by membership (0 background, 1 object) and level."""
        return self.quadrants.sum(1).double()

    @cached_property
    def members(self) -> Tensor:
        """float64 `(B, 2)`: pixels of background and object."""
        return self.counts.sum(2)

    @cached_property
    def scored(self) -> Tensor:
        """bool `(B,)`: False where the protocol "ldf" skips a pair (map or mask all zero)."""
        black = self.counts[:, :, 0].sum(1)
        return (black < self.members.sum(1)) & (self.members[:, 1] > 0)

    @cached_property
    def mean_value(self) -> Tensor:
        """float64 `(B,)`: the mean of each stretched map."""
        return (self.counts.sum(1) * self.values).sum(1) / self.members.sum(1)

    @cached_property
    def at_thresholds(self) -> ThresholdCounts:
        """Select levels q >= t for t = 255, 254 .. 0, where q is the stretched value times 255, cut off."""
        thresholds = torch.arange(LEVELS - 1, -1, -1, dtype=torch.float64, device=self.values.device)
        return self._selecting(
            (255 * self.values).trunc(), thresholds.expand(len(self.values), -1), strict=False
        )

    @cached_property
    def at_adaptive_threshold(self) -> ThresholdCounts:
        """Select values from twice the mean of the stretched map, or from 1 if that is less (T = 1)."""
        return self._selecting(self.values, (2 * self.mean_value[:, None]).clamp(max=1), strict=False)

    @cached_property
    def above_twice_the_mean(self) -> ThresholdCounts:
        """Select values above twice the mean (T = 1); none where the mean reaches one half."""
        return self._selecting(self.values, 2 * self.mean_value[:, None], strict=True)

    def _selecting(self, values: Tensor, thresholds: Tensor, strict: bool) -> ThresholdCounts:
        # values ascend with the level, so a threshold selects all levels from some first one on
        first = torch.searchsorted(values, thresholds.contiguous(), right=strict)
        background, true_positive = self._from_level.gather(2, first[:, None].expand(-1, 2, -1)).unbind(1)
        positive, total = self.members[:, 1:], self.members.sum(1, keepdim=True)
        return ThresholdCounts(true_positive, background + true_positive, positive, total)

    @cached_property
    def _from_level(self) -> Tensor:
        """float64 `(B, 2, 257)`: pixels at each level or above."""
        return torch.nn.functional.pad(self.quadrants.sum(1).flip(-1).cumsum(-1).flip(-1), (0, 1)).double()


def _count_levels(batch: SaliencyBatch, protocol: SaliencyProtocol) -> Tensor:
    """int64 `(B, 4, 2, 256)`, see `SaliencyHistogram.quadrants`."""
    levels, masks = batch
    count = len(levels)
    size = 4 * 2 * LEVELS
    dtype = torch.int32 if count * size < 2**31 else torch.int64
    bottom = _beyond_centroid(masks.sum(2), protocol).to(dtype) * (2 * 2 * LEVELS)
    right = _beyond_centroid(masks.sum(1), protocol).to(dtype) * (2 * LEVELS)
    image = torch.arange(count, dtype=dtype, device=levels.device)[:, None] * size
    index = (image + bottom)[:, :, None] + right[:, None, :]
    index.add_(levels).add_(masks, alpha=LEVELS)
    return torch.bincount(index.flatten(), minlength=count * size).reshape(count, 4, 2, LEVELS)


def _beyond_centroid(profile: Tensor, protocol: SaliencyProtocol) -> Tensor:
    """Tell which rows (or columns) lie after the one that holds the centroid.

    Args:
        profile: int64 `(B, L)`: object pixels of each row; without any, the first row holds the centroid.
        protocol: how exact halves are rounded: to the even 0-based row, or to the larger one.

    Returns:
        bool `(B, L)`.
    """
    position = torch.arange(profile.shape[1], device=profile.device)
    centre = (profile * position).sum(1).double() / profile.sum(1).clamp(min=1)
    centre = centre.round() if protocol == "pysodmetrics" else (centre + 0.5).floor()
    return position > centre[:, None]


def _stretched(counts: Tensor, protocol: SaliencyProtocol) -> Tensor:
    """float64 `(B, 256)`: values of the levels of images with `counts` `(B, 256)` pixels at each."""
    level = torch.arange(LEVELS, device=counts.device)
    present = counts > 0
    low = torch.where(present, level, LEVELS - 1).amin(1, keepdim=True)
    high = torch.where(present, level, 0).amax(1, keepdim=True)
    # Divide by 255 first, as the references do: 255 (v - low) / (high - low) is cut off differently.
    value, bottom, top = (v.double() / (LEVELS - 1) for v in (level, low, high))
    constant = value if protocol == "pysodmetrics" else (level > 0).double()
    return torch.where(low == high, constant, (value - bottom) / (top - bottom))
