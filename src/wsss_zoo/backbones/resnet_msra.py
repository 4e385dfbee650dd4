"""ResNet-101 of DeepLab v2 (MSRA/Caffe flavour), stride 8."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.normalization import CAFFE_BGR


class ConvNorm(nn.Module):
    """Convolution without bias, then batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int = 1) -> None:
        super().__init__()
        padding = 3 if kernel == 7 else dilation * (kernel // 2)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Without activation."""
        return self.bn(self.conv(x))


class Stem(nn.Module):
    """7x7 convolution and max pooling whose size rounds up, as in Caffe: stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, 64, 7, 2)

    def forward(self, images: Tensor) -> Tensor:
        """64 channels."""
        return F.max_pool2d(F.relu(self.conv1(images)), 3, stride=2, padding=1, ceil_mode=True)


class Bottleneck(nn.Module):
    """Bottleneck with the stride on the first 1x1 convolution and on the shortcut."""

    def __init__(self, inputs: int, middle: int, stride: int, dilation: int, shortcut: bool) -> None:
        super().__init__()
        self.reduce = ConvNorm(inputs, middle, 1, stride)
        self.conv3x3 = ConvNorm(middle, middle, 3, 1, dilation)
        self.increase = ConvNorm(middle, 4 * middle, 1, 1)
        if shortcut:
            self.shortcut = ConvNorm(inputs, 4 * middle, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """ReLU after the sum."""
        branch = F.relu(self.conv3x3(F.relu(self.reduce(x))))
        shortcut = self.shortcut(x) if hasattr(self, "shortcut") else x
        return F.relu(self.increase(branch) + shortcut)


class MSRAResNet101(Backbone):
    """ResNet-101 as the DeepLab v2 authors used it; 321 pixels become 41, 513 become 65.

    Exposes `layer2` (256 channels, stride 4), `layer3` (512), `layer4` (1024) and `layer5` (2048, stride 8).
    Input is BGR in 0..255 with the mean subtracted. Keys are those of the deeplab-pytorch release.

    Args:
        frozen_norm: batch norm stays in evaluation mode and is not learnt (the DeepLab v2 recipe).
    """

    stages = (
        Stage("layer2", 256, 4),
        Stage("layer3", 512, 8),
        Stage("layer4", 1024, 8),
        Stage("layer5", 2048, 8),
    )
    normalization = CAFFE_BGR

    def __init__(self, frozen_norm: bool = True) -> None:
        super().__init__()
        self.layer1 = Stem()
        settings = ((3, 64, 1, 1), (4, 128, 2, 1), (23, 256, 1, 2), (3, 512, 1, 4))
        inputs = 64
        for index, (blocks, middle, stride, dilation) in enumerate(settings, 2):
            layer = nn.Sequential()
            for number in range(1, blocks + 1):
                first = number == 1
                layer.add_module(
                    f"block{number}", Bottleneck(inputs, middle, stride if first else 1, dilation, first)
                )
                inputs = 4 * middle
            self.add_module(f"layer{index}", layer)
        if frozen_norm:
            self.norm = "frozen"
        self.hold_norms()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name."""
        x = self.layer1(images)
        maps = {}
        for stage in self.stages:
            x = self.get_submodule(stage.name)(x)
            maps[stage.name] = x
        return maps


def key_from_torchvision(key: str) -> str | None:
    """Key of this network for a key of torchvision's ResNet-101; None for the classifier.

    Torchvision puts the stride on the 3x3 convolution: its weights load, but the two networks are not
    numerically interchangeable.
    """
    parts = key.split(".")
    if parts[0] == "fc":
        return None
    if parts[0] == "conv1":
        return f"layer1.conv1.conv.{parts[1]}"
    if parts[0] == "bn1":
        return f"layer1.conv1.bn.{parts[1]}"
    block = f"layer{int(parts[0][5:]) + 1}.block{int(parts[1]) + 1}"
    names = {"1": "reduce", "2": "conv3x3", "3": "increase"}
    if parts[2] == "downsample":
        return f"{block}.shortcut.{'conv' if parts[3] == '0' else 'bn'}.{parts[4]}"
    kind = "conv" if parts[2].startswith("conv") else "bn"
    return f"{block}.{names[parts[2][-1]]}.{kind}.{parts[3]}"
