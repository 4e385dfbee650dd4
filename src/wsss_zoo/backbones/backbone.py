"""What every feature extractor of the zoo promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Self

from torch import Tensor, nn

from wsss_zoo.normalization import Normalization


class Stage(NamedTuple):
    """A feature map that a backbone exposes.

    Attributes:
        name: key of the map in the output of the backbone.
        channels: its channels.
        stride: input pixels for one cell of the map, along each axis.
    """

    name: str
    channels: int
    stride: int


class Backbone(nn.Module):
    """A feature extractor: image in, named feature maps out.

    Attributes:
        stages: the maps it exposes, shallow to deep.
        normalization: how 8-bit pixels become its input.
        norm: what batch norm does in training mode. `"trained"`: statistics of the batch, weight and bias
            learn. `"running"`: running statistics, weight and bias learn. `"frozen"`: running statistics,
            nothing learns, which makes it a fixed affine map.

    Whatever is frozen is so from the constructor on, so that an optimiser built before `train()` is right.
    """

    stages: tuple[Stage, ...]
    normalization: Normalization
    norm: Literal["trained", "running", "frozen"] = "trained"

    @property
    def out_channels(self) -> int:
        """Channels of the deepest map."""
        return self.stages[-1].channels

    @property
    def out_stride(self) -> int:
        """Stride of the deepest map."""
        return self.stages[-1].stride

    def train(self, mode: bool = True) -> Self:
        """Training (or evaluation) mode, except for what stays frozen."""
        super().train(mode)
        self.hold_norms()
        return self

    def hold_norms(self) -> None:
        """Put batch norm in the state that `norm` says; a constructor's last call."""
        if self.norm != "trained":
            freeze_norms(self, affine=self.norm == "frozen")

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
