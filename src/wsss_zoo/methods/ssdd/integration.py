"""The integration rule: of two masks the one whose difference is harder to predict gives way."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

#: Values of an 8-bit mask: labels and 255.
_VALUES = 256


def vanished_classes(
    before: Tensor, after: Tensor, labels: Tensor, prefer: Literal["after", "before"] = "after"
) -> Tensor:
    """Flag the classes that the second mask all but deletes.

    A class of the image whose pixels in `after` are less than half of those in `before`. A class that
    neither mask has counts as deleted, too. The poster's rule (`prefer="before"`) also flags at exactly half,
    and the background, which the release never does.

    Args:
        before: integers `(B, h, w)`, 0 background, 1..C, 255 for no label.
        after: as `before`.
        labels: `(B, C)`, 0 and 1, the image-level labels.
        prefer: `"after"` for the release's rule, `"before"` for the poster's.

    Returns:
        float32 `(B, C + 1)`, 0 and 1; column 0 is the background.
    """
    size = labels.shape[1] + 1
    share = _counts(after)[:, :size] / _counts(before)[:, :size].clamp(min=1)
    if prefer == "after":
        return (share < 0.5).float() * F.pad(labels.float(), (1, 0))
    return (share <= 0.5).float() * F.pad(labels.float(), (1, 0), value=1.0)


def integration_score(
    d_before: Tensor,
    d_after: Tensor,
    before: Tensor,
    after: Tensor,
    flags: Tensor,
    bias: float = 0.4,
    bg_bias: float = 0.0,
) -> Tensor:
    """How much the second mask is to be trusted over the first, at each pixel.

    `sigmoid(d_before) - sigmoid(d_after) + bias`; less `bg_bias` where the first mask is
    background, plus as much where the second is; less 1 where the first mask shows a flagged class, plus 1
    where the second does, so that no class of the image is deleted.

    Args:
        d_before: logits `(B, 1, h, w)` or `(B, h, w)`: how predictable a difference is from the first mask.
        d_after: logits: from the second mask.
        before: integers `(B, h, w)`, 0 background, 1..C, 255 for no label.
        after: as `before`.
        flags: `(B, C + 1)`, 0 and 1, see `vanished_classes`.
        bias: above 0 for more of the second mask.
        bg_bias: above 0 for more background.

    Returns:
        float32 `(B, h, w)`.
    """
    score = torch.sigmoid(_plane(d_before)) - torch.sigmoid(_plane(d_after)) + bias
    score = score - bg_bias * (before == 0) + bg_bias * (after == 0)
    by_value = F.pad(flags.float(), (0, _VALUES - flags.shape[1]))
    return score - _at_pixels(by_value, before) + _at_pixels(by_value, after)


def integrate(
    d_before: Tensor,
    d_after: Tensor,
    before: Tensor,
    after: Tensor,
    flags: Tensor,
    bias: float = 0.4,
    bg_bias: float = 0.0,
    prefer: Literal["after", "before"] = "after",
) -> Tensor:
    """Take at each pixel the mask that is trusted more.

    Official code and poster disagree in a sign: with the same positive bias the code favours the second
    mask (it wins where `score >= 0`), the poster the first (it wins where `score <= 2 * bias`).

    Args:
        d_before: see `integration_score`.
        d_after: see `integration_score`.
        before: see `integration_score`.
        after: see `integration_score`.
        flags: see `integration_score`.
        bias: see `integration_score`; training 0.4, masks that train the dynamic stage 0.1.
        bg_bias: see `integration_score`; training 0, masks that train the dynamic stage 0.1.
        prefer: the mask that `bias` favours: `"after"` as released, `"before"` as printed on the poster.

    Returns:
        `(B, h, w)`, of the type of the masks.
    """
    score = integration_score(d_before, d_after, before, after, flags, bias, bg_bias)
    trusted = score >= 0 if prefer == "after" else score - 2 * bias > 0
    return torch.where(trusted, after, before)


def _plane(logits: Tensor) -> Tensor:
    return (logits.squeeze(1) if logits.ndim == 4 else logits).float()


def _counts(mask: Tensor) -> Tensor:
    """Pixels of each value, `(B, 256)`."""
    count = len(mask)
    offsets = _VALUES * torch.arange(count, device=mask.device)
    values = (mask.flatten(1).long() + offsets[:, None]).flatten()
    return torch.bincount(values, minlength=count * _VALUES).view(count, _VALUES)


def _at_pixels(by_value: Tensor, mask: Tensor) -> Tensor:
    """What a table `(B, 256)` says of the value of each pixel, `(B, h, w)`."""
    return by_value.gather(1, mask.flatten(1).long()).view(mask.shape)
