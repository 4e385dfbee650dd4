"""Torchvision's ResNet-50 and ResNet-101 as feature extractors, and IRN's ResNet-50."""

from __future__ import annotations

from typing import Literal

import torchvision
from torch import Tensor

from wsss_zoo.backbones.backbone import Backbone, Stage, freeze
from wsss_zoo.errors import WsssZooError
from wsss_zoo.normalization import IMAGENET

_BUILDERS = {50: torchvision.models.resnet50, 101: torchvision.models.resnet101}
_DILATE = {32: (False, False, False), 16: (False, False, True), 8: (False, True, True)}


class ResNet(Backbone):
    """ResNet-50 or ResNet-101 with the stride on the 3x3 convolution (torchvision layout).

    Exposes `layer1` (256 channels, stride 4), `layer2` (512), `layer3` (1024) and `layer4` (2048).

    Args:
        depth: 50 or 101.
        output_stride: 8, 16 or 32; removed strides become dilation.
        frozen_norm: batch norm stays in evaluation mode and is not learnt.

    Raises:
        WsssZooError: another output stride or depth.
    """

    normalization = IMAGENET

    def __init__(
        self, depth: Literal[50, 101] = 50, output_stride: int = 16, frozen_norm: bool = False
    ) -> None:
        super().__init__()
        if output_stride not in _DILATE:
            raise WsssZooError(f"resnet{depth}: output_stride is 8, 16 or 32, got {output_stride!r}")
        if depth not in _BUILDERS:
            raise WsssZooError(f"ResNet: depth is 50 or 101, got {depth!r}")
        network = _BUILDERS[depth](weights=None, replace_stride_with_dilation=list(_DILATE[output_stride]))
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.relu, self.maxpool = network.relu, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        self.stages = tuple(
            Stage(f"layer{index}", 128 * 2**index, min(2 ** (index + 1), output_stride))
            for index in range(1, 5)
        )
        if frozen_norm:
            self.norm = "frozen"
        self.hold_norms()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = {}
        for stage in self.stages:
            x = self.get_submodule(stage.name)(x)
            maps[stage.name] = x
        return maps


class IRNResNet50(ResNet):
    """ResNet-50 of IRN (Ahn et al., 2019): the last level keeps its resolution without dilation (stride 16).

    Batch norm always uses running statistics while its weight and bias learn; conv1 and bn1 are frozen.

    Args:
        detach_layer2: cut the gradient after layer2, so that only layer3 and layer4 learn (IRN's
            classification network).
    """

    norm = "running"

    def __init__(self, detach_layer2: bool = True) -> None:
        super().__init__(50, output_stride=32)
        self.detach_layer2 = detach_layer2
        block = self.layer4[0]
        block.conv2.stride = (1, 1)
        block.downsample[0].stride = (1, 1)
        self.stages = (*self.stages[:3], Stage("layer4", 2048, 16))
        for name in ("conv1", "bn1"):
            freeze(self.get_submodule(name))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        layer1 = self.layer1(x)
        layer2 = self.layer2(layer1)
        if self.detach_layer2:
            layer2 = layer2.detach()
        layer3 = self.layer3(layer2)
        return {"layer1": layer1, "layer2": layer2, "layer3": layer3, "layer4": self.layer4(layer3)}
