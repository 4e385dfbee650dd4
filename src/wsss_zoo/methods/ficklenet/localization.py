"""Localization maps of N selections, merged as they are made."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.ficklenet.head import FickleHead

#: Numbers that are drawn at once: 16 MiB in float32, whatever N is.
_DRAWN_AT_ONCE = 2**22


class SampledMaps(NamedTuple):
    """What is kept of the N maps of an image, each of which was divided by its own maximum.

    Attributes:
        mean: `(K, h, w)` in [0, 1], the average map: of several classes that claim a pixel, the highest.
        maximum: `(K, h, w)` in [0, 1]. "Any of the N maps is above t" is `maximum > t`, for every t.
    """

    mean: Tensor
    maximum: Tensor


@torch.no_grad()
def sample_maps(
    head: FickleHead,
    x: Tensor,
    classes: Tensor,
    count: int = 200,
    generator: torch.Generator | None = None,
    size: tuple[int, int] | None = None,
) -> SampledMaps:
    """Draw N selections and merge their localization maps (Lee et al., CVPR 2019, sections 3.2.2 and 3.3).

    The map of class c is `ReLU(sum over channels of x * dS_c/dx)`. Scores are linear in the map given the
    selection, so this is a sum of the kept units' parts (`FickleHead.parts`): one projection an image and one
    masked sum a selection, no backward pass. Memory does not depend on N.

    Args:
        head: the classifier.
        x: features `(1, D, h, w)`.
        classes: indices of the classes to localize, `(K,)`.
        count: N (published: 200). Without anything random (p = 0) one map is made.
        generator: on the device of `x`; None: torch's own. The first n of N maps are the same whatever N.
        size: every map is resized to this `(h, w)` before it is merged (bilinear, half-pixel); None: the size
            of `x`.

    Raises:
        WsssZooError: `count` is below 1.
    """
    if count < 1:
        raise WsssZooError(f"FickleNet: the number of maps of an image is at least 1, got {count}")
    height, width = x.shape[2:]
    parts = head.parts(x, classes) / (height * width)
    by_cell = parts.permute(1, 2, 0).contiguous()  # (hw, J, K)
    mean, maximum = (parts.new_zeros(len(classes), *(size or (height, width))) for _ in range(2))
    if len(classes) == 0:
        return SampledMaps(mean, maximum)
    count = 1 if head.p == 0 else count
    at_once = max(1, _DRAWN_AT_ONCE // (parts.shape[1] * parts.shape[2]))
    for start in range(0, count, at_once):
        kept = head.draw(min(at_once, count - start), x, generator)
        with torch.autocast(x.device.type, enabled=False):
            sums = torch.bmm(kept.transpose(0, 1), by_cell)  # (hw, n, K)
        maps = sums.permute(1, 2, 0).relu().unflatten(2, (height, width))
        maps = over_maximum(maps)
        if size is not None and size != (height, width):
            maps = F.interpolate(maps, size, mode="bilinear", align_corners=False)
        mean += maps.sum(0)
        maximum = torch.maximum(maximum, maps.amax(0))
    return SampledMaps(mean / count, maximum)


def over_maximum(maps: Tensor) -> Tensor:
    """Each map `(..., h, w)`, not negative, over its maximum; zero where that is zero."""
    highest = maps.amax((-2, -1), keepdim=True)
    return maps / torch.where(highest > 0, highest, 1.0)
