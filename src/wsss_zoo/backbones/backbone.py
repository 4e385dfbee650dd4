"""What every feature extractor of the zoo promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from wsss_zoo.normalization import Normalization


class Stage(NamedTuple):
    """A feature map that a backbone exposes."""

    name: str
    channels: int
    stride: int


class Backbone(nn.Module):
    """A feature extractor: image in, named feature maps out.

    Attributes:
        stages: the maps it exposes, shallow to deep.
        normalization: how 8-bit pixels become its input.
    """

    stages: tuple[Stage, ...]
    normalization: Normalization

    @property
    def out_channels(self) -> int:
        """Channels of the deepest map."""
        return self.stages[-1].channels

    @property
    def out_stride(self) -> int:
        """Stride of the deepest map."""
        return self.stages[-1].stride

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images `(B, 3, H, W)` -> maps `(B, channels, h, w)` by stage name, shallow to deep."""
        raise NotImplementedError

    def pretrained_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and parameters that learn (frozen ones are left out)."""
        return ((name, item) for name, item in self.named_parameters() if item.requires_grad)


def freeze(module: nn.Module) -> None:
    """Stop gradients of all parameters of a module."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)


def freeze_norms(module: nn.Module, *, affine: bool = True) -> None:
    """Put every batch norm in evaluation mode; with `affine`, its weight and bias stop learning too."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
            if affine:
                freeze(layer)
