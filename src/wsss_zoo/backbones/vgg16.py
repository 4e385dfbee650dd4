"""The dense VGG16 of the field: PSA's, DeepLab-LargeFOV's, and its convolutions alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage, freeze
from wsss_zoo.normalization import CAFFE_BGR

_CONVOLUTIONS = {1: (64, 64), 2: (128, 128), 3: (256, 256, 256), 4: (512, 512, 512), 5: (512, 512, 512)}


class VGG16d(Backbone):
    """VGG16 with stride 8 as in PSA; fc6 and fc7 are convolutions with 1024 channels.

    Exposes `conv4` (512), `conv5` (512) and `conv5fc` (1024), all after ReLU at stride 8. Input is BGR in
    0..255 with the mean subtracted. conv1 and conv2 are frozen.

    Args:
        fc6_dilation: 1 for classification, 4 for AffinityNet.
    """

    stages = (Stage("conv4", 512, 8), Stage("conv5", 512, 8), Stage("conv5fc", 1024, 8))
    normalization = CAFFE_BGR

    def __init__(self, fc6_dilation: int = 1) -> None:
        super().__init__()
        _add_convolutions(self)
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=fc6_dilation, dilation=fc6_dilation)
        self.dropout = nn.Dropout2d(0.5)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2"):
            freeze(self.get_submodule(name))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name, all `ceil(H / 8) x ceil(W / 8)`."""
        x = images
        for group in (1, 2, 3):
            x = F.max_pool2d(_group(self, group, x), 3, stride=2, padding=1)
        conv4 = _group(self, 4, x)
        conv5 = _group(self, 5, F.max_pool2d(conv4, 3, stride=1, padding=1))
        x = self.dropout(F.relu(self.fc6(conv5)))
        return {"conv4": conv4, "conv5": conv5, "conv5fc": F.relu(self.fc7(x))}


class VGG16Conv5(Backbone):
    """The convolutions of VGG16 at stride 8, without anything after them (FickleNet; Lee et al., 2019).

    Exposes `conv5` (512) after ReLU. pool4 has stride 1, there is no pool5, and conv5 is dilated by 2. As in
    DeepLab-LargeFOV 321 pixels become 41. Input is BGR in 0..255 with the mean subtracted.
    """

    stages = (Stage("conv5", 512, 8),)
    normalization = CAFFE_BGR

    def __init__(self) -> None:
        super().__init__()
        _add_convolutions(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The map by name, `ceil(H / 8) x ceil(W / 8)`."""
        return {"conv5": _convolutions(self, images)}


class VGG16LargeFOV(Backbone):
    """DeepLab-LargeFOV (Chen et al., 2015): pool5 and an average pool, fc6 with dilation 12, dropout.

    Exposes `conv5` (512) and `fc7` (1024) at stride 8. Input is BGR in 0..255 with the mean subtracted.

    Args:
        dropout: of single activations, as in Caffe, after fc6 and fc7.
        fc6_dilation: dilation of fc6 ("large field of view" is 12).
    """

    stages = (Stage("conv5", 512, 8), Stage("fc7", 1024, 8))
    normalization = CAFFE_BGR

    def __init__(self, dropout: float = 0.5, fc6_dilation: int = 12) -> None:
        super().__init__()
        _add_convolutions(self)
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=fc6_dilation, dilation=fc6_dilation)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name; 321 pixels become 41."""
        conv5 = _convolutions(self, images)
        x = self.dropout(F.relu(self.fc6(_pool5(conv5))))
        return {"conv5": conv5, "fc7": self.dropout(F.relu(self.fc7(x)))}


class VGG16ASPP(Backbone):
    """DeepLab's VGG16 with fc6 and fc7 in parallel branches of different dilation (ASPP; Chen et al., 2018).

    The network of DSRG. Exposes `fc7_1`, `fc7_2`, ... (1024), one for each branch, at stride 8. Input is BGR
    in 0..255 with the mean subtracted.

    Args:
        dropout: of single activations, as in Caffe, after fc6 and fc7 of every branch.
        fc6_dilations: dilation of fc6 in every branch.
    """

    normalization = CAFFE_BGR

    def __init__(self, dropout: float = 0.5, fc6_dilations: tuple[int, ...] = (6, 12, 18, 24)) -> None:
        super().__init__()
        _add_convolutions(self)
        self.branches = range(1, len(fc6_dilations) + 1)
        for index, dilation in zip(self.branches, fc6_dilations, strict=True):
            self.add_module(f"fc6_{index}", nn.Conv2d(512, 1024, 3, padding=dilation, dilation=dilation))
            self.add_module(f"fc7_{index}", nn.Conv2d(1024, 1024, 1))
        self.dropout = nn.Dropout(dropout)
        self.stages = tuple(Stage(f"fc7_{index}", 1024, 8) for index in self.branches)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name; 321 pixels become 41."""
        pooled = _pool5(_convolutions(self, images))
        maps = {}
        for index in self.branches:
            x = self.dropout(F.relu(self.get_submodule(f"fc6_{index}")(pooled)))
            maps[f"fc7_{index}"] = self.dropout(F.relu(self.get_submodule(f"fc7_{index}")(x)))
        return maps


def _add_convolutions(network: nn.Module) -> None:
    inputs = 3
    for group, widths in _CONVOLUTIONS.items():
        dilation = 2 if group == 5 else 1
        for index, width in enumerate(widths, 1):
            layer = nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation)
            network.add_module(f"conv{group}_{index}", layer)
            inputs = width


def _group(network: nn.Module, group: int, x: Tensor) -> Tensor:
    for index in range(1, len(_CONVOLUTIONS[group]) + 1):
        x = F.relu(network.get_submodule(f"conv{group}_{index}")(x))
    return x


def _convolutions(network: nn.Module, images: Tensor) -> Tensor:
    """conv1_1 to conv5_3 with pools of 3x3, the last of which has stride 1."""
    x = images
    for group in (1, 2, 3, 4):
        stride = 2 if group < 4 else 1
        x = F.max_pool2d(_group(network, group, x), 3, stride=stride, padding=1)
    return _group(network, 5, x)


def _pool5(conv5: Tensor) -> Tensor:
    """Both pools that DeepLab has after conv5, of stride 1."""
    x = F.max_pool2d(conv5, 3, stride=1, padding=1)
    return F.avg_pool2d(x, 3, stride=1, padding=1)  # the border counts in the divisor, in Caffe and here
