"""Layers that heads and difference detectors of SSDD are made of."""

from __future__ import annotations

from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import freeze


class ConstantNorm(nn.BatchNorm2d):
    """Batch norm that always uses its running statistics and learns nothing: a fixed affine map.

    In new layers it only divides by `sqrt(1 + 1e-3)`. It is there because published weights have one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3)
        freeze(self)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)


class ConvBlock(nn.Module):
    """Convolution that keeps the size (reflection padding), constant batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv = reflected_conv(inputs, outputs, kernel, dilation, bias)
        self.norm = ConstantNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)` -> `(B, outputs, h, w)`."""
        return F.relu(self.norm(self.conv(x)))


def reflected_conv(
    inputs: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = False
) -> nn.Conv2d:
    """A convolution that keeps the size; beyond its border a map goes on as its mirror image."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        padding=padding,
        dilation=dilation,
        bias=bias,
        padding_mode="reflect" if padding else "zeros",
    )


def initialise(module: nn.Module) -> None:
    """Kaiming's normal distribution for the convolutions, zero for their biases, as in the release."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
