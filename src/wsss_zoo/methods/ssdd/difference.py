"""The difference detector (DD-Net): where a mapping will change a mask, told from image and one mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.methods.ssdd.layers import ConstantNorm, ConvBlock, initialise
from wsss_zoo.methods.ssdd.masks import one_hot


class DifferenceDetector(nn.Module):
    """DD-Net: features of the image and one of two masks -> where they differ.

    The same weights see the mask before the mapping and the mask after it; what is read from the image is
    shared by both, so it is computed once (`features`).

    Args:
        deep: channels of the deep features, which a segmentation head gives.
        shallow: channels of the shallow ones.
        num_labels: C + 1.
        channels: inside the network.
    """

    def __init__(self, deep: int, shallow: int, num_labels: int, channels: int = 256) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.image = ConvBlock(deep + shallow, channels, 3)
        self.mask = ConvBlock(num_labels, channels, 1)
        self.reduce = ConvBlock(2 * channels, channels, 1)
        self.middle = ConvBlock(channels, channels, 3)
        self.expand = nn.Conv2d(channels, channels, 1, bias=False)
        self.expand_norm = ConstantNorm(channels)
        self.shortcut = nn.Conv2d(2 * channels, channels, 1, bias=False)
        self.shortcut_norm = ConstantNorm(channels)
        self.classifier = nn.Conv2d(channels, 1, 1, bias=False)
        initialise(self)

    def features(self, deep: Tensor, shallow: Tensor) -> Tensor:
        """What is read from the image: `(B, channels, h, w)`.

        Args:
            deep: `(B, deep, h, w)`; no gradient goes back.
            shallow: `(B, shallow, h, w)`; no gradient goes back.
        """
        return self.image(torch.cat([deep.detach(), shallow.detach()], 1))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Logits `(B, 1, h, w)` of a difference; high where the mask is not to be trusted.

        Args:
            features: see `features`.
            mask: integers `(B, h, w)`; pixels with 255 are given as no label.
        """
        planes = one_hot(mask, self.num_labels).to(features.dtype)
        x = torch.cat([features, self.mask(planes)], 1)
        branch = self.expand_norm(self.expand(self.middle(self.reduce(x))))
        return self.classifier(F.relu(branch + self.shortcut_norm(self.shortcut(x))))
