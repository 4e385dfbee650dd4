"""FickleNet as it is published: windows side by side on a larger map, and gradients for the maps.

`FickleHead` computes the same without the larger map and without a backward pass. This is what it is tested
and measured against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.methods.ficklenet.head import FickleHead


def expand(x: Tensor, kernel: int) -> Tensor:
    """Lay the windows around all positions side by side (Lee et al., section 3.1.1).

    Args:
        x: `(B, D, h, w)`; zeros stand around it.
        kernel: side s of the windows, odd.

    Returns:
        `(B, D, s h, s w)`; the block of `s x s` at (i, j) is the window around (i, j).
    """
    batch, channels, height, width = x.shape
    windows = F.unfold(x, kernel, padding=kernel // 2)
    windows = windows.view(batch, channels, kernel, kernel, height, width)
    return windows.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, kernel * height, kernel * width)


def expanded_selection(kept: Tensor, head: FickleHead, x: Tensor) -> Tensor:
    """The selection of `FickleHead.draw` as factors of the expanded map.

    Args:
        kept: `(B, hw, J)`.
        head: drew it.
        x: the map that it was drawn for.

    Returns:
        `(B, 1 or D, s h, s w)`: 0 where a unit is dropped, otherwise 1 or `1 / (1 - p)`.
    """
    height, width = x.shape[2:]
    kernel = head.kernel
    gain = 1 / (1 - head.p) if head.rescale else 1.0
    if head.selection == "general":
        return gain * expand(kept.transpose(1, 2).unflatten(2, (height, width)), kernel)
    factors = (gain * kept).unflatten(2, (kernel**2, -1))
    factors[:, :, kernel**2 // 2] = 1
    planes = factors.permute(0, 3, 2, 1).unflatten(3, (height, width))  # (B, 1 or D, s^2, h, w)
    radius = kernel // 2
    padded = F.pad(planes, (radius, radius, radius, radius))
    expanded = x.new_zeros(len(kept), planes.shape[1], height, kernel, width, kernel)
    for row in range(kernel):
        for column in range(kernel):
            plane = padded[:, :, row * kernel + column, row : row + height, column : column + width]
            expanded[:, :, :, row, :, column] = plane
    return expanded.flatten(4, 5).flatten(2, 3)


def expanded_score_maps(x: Tensor, head: FickleHead, kept: Tensor | None) -> Tensor:
    """Expand, drop, convolve with stride s.

    Args:
        x: `(B, D, h, w)`.
        head: gives weights and settings.
        kept: see `FickleHead.draw`; None: nothing is dropped.

    Returns:
        `(B, C, h, w)`; its mean over positions is the score.
    """
    expanded = expand(x, head.kernel)
    if kept is not None:
        expanded = expanded * expanded_selection(kept, head, x)
    return F.conv2d(expanded, head.weight, head.bias, stride=head.kernel)


def gradient_maps(x: Tensor, head: FickleHead, kept: Tensor | None, classes: list[int]) -> Tensor:
    """Localization maps by back-propagation: `ReLU(sum over channels of x * dS_c/dx)` (section 3.2.2).

    Args:
        x: `(B, D, h, w)`, the map before it is expanded.
        head: gives weights and settings.
        kept: see `FickleHead.draw`.
        classes: one backward pass for each.

    Returns:
        `(B, K, h, w)`, not normalised.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        scores = expanded_score_maps(x, head, kept).mean((2, 3))
        maps = []
        for position, index in enumerate(classes):
            keep_graph = position + 1 < len(classes)
            (gradient,) = torch.autograd.grad(scores[:, index].sum(), x, retain_graph=keep_graph)
            maps.append((x * gradient).sum(1).relu())
    return torch.stack(maps, 1).detach()
