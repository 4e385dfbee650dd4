"""The pixel correlation module (PCM): each position takes over the maps of those that look like it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.methods.seam.planes import EPSILON, resize

#: Similarities held at a time (64 MB in float32). A 1000 x 750 image has 138 million at stride 8.
BLOCK = 2**24


def correlate(maps: Tensor, keys: Tensor, block: int = BLOCK) -> Tensor:
    """Average maps over all positions, weighted by the rectified cosine similarity of keys.

    `R(j) = sum_i A(i) K(i, j) / (sum_i K(i, j) + 1e-5)` with `K = relu(g^T g)` and `g` the keys over their
    length (+ 1e-5). Exact, but the similarities are made for a block of positions j at a time, and instead
    of normalising them the sum is divided: without gradients the memory grows with the number of positions
    and not with its square, with gradients one copy of the similarities is kept for the backward pass.

    Args:
        maps: `(B, P, h, w)`.
        keys: `(B, D, h, w)`.
        block: largest number of similarities in a block (never less than one column an image).

    Returns:
        `(B, P, h, w)`; float32 in half precision, too, where 1e-5 would vanish.
    """
    device, size = keys.device.type, maps.shape[2:]
    dtype = torch.promote_types(keys.dtype, torch.float32)
    available = torch.amp.autocast_mode.is_autocast_available(device)
    with torch.autocast(device, enabled=False) if available else nullcontext():
        values, keys = maps.to(dtype).flatten(2), keys.to(dtype).flatten(2)
        keys = keys / (keys.norm(dim=1, keepdim=True) + EPSILON)
        # a plane of ones collects the sum of the weights
        values = torch.cat([values, torch.ones_like(values[:, :1])], 1)
        transposed = keys.transpose(1, 2)
        columns = max(1, block // (len(keys) * keys.shape[2]))
        sums = torch.cat([values @ (transposed @ part).relu_() for part in keys.split(columns, 2)], 2)
        return (sums[:, :-1] / (sums[:, -1:] + EPSILON)).unflatten(2, size)


class PixelCorrelation(nn.Module):
    """PCM (Wang et al., CVPR 2020, section 3.3).

    Keys are a 1x1 convolution of the image and of two feature levels, all on the grid of the maps. Nothing
    but the three convolutions learns from the refined maps: features and maps come without gradients.

    Args:
        in_channels: channels of the two feature levels.
        channels: what they are reduced to; keys have as many channels together.
        image_scale: factor of the image, see `SEAMNetwork`.
    """

    def __init__(
        self, in_channels: tuple[int, int], channels: tuple[int, int] = (64, 128), image_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.shallow = nn.Conv2d(in_channels[0], channels[0], 1, bias=False)
        self.deep = nn.Conv2d(in_channels[1], channels[1], 1, bias=False)
        self.key = nn.Conv2d(3 + sum(channels), sum(channels), 1, bias=False)
        nn.init.kaiming_normal_(self.shallow.weight)
        nn.init.kaiming_normal_(self.deep.weight)
        nn.init.xavier_uniform_(self.key.weight, gain=4)
        self.image_scale = image_scale

    def features(self, images: Tensor, shallow: Tensor, deep: Tensor, size: Sequence[int]) -> Tensor:
        """What keys are made of.

        Args:
            images: `(B, 3, H, W)`.
            shallow: the first feature level.
            deep: the second.
            size: `(h, w)` of the grid; what has another size is resized.

        Returns:
            `(B, 3 + sum(channels), h, w)`: image, shallow, deep.
        """
        levels = (_on_grid(level.detach(), size) for level in (shallow, deep))
        reduced = [F.relu(layer(x)) for layer, x in zip((self.shallow, self.deep), levels, strict=True)]
        image = resize(images * self.image_scale, size).to(reduced[0].dtype)
        return torch.cat([image, *reduced], 1)

    def forward(self, maps: Tensor, features: Tensor) -> Tensor:
        """Maps `(B, P, h', w')`, resized to the grid of the features, refined: `(B, P, h, w)`."""
        maps = _on_grid(maps.detach(), features.shape[2:])
        return correlate(maps, self.key(features))


def _on_grid(maps: Tensor, size: Sequence[int]) -> Tensor:
    return maps if tuple(maps.shape[2:]) == tuple(size) else resize(maps, size)
