"""ResNet38d: "Model A1" of Wu, Shen and van den Hengel, "Wider or Deeper" (2019), made dense.

Stride 8 and dilated last levels, as in the PSA, SEAM and SC-CAM releases.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage, freeze
from wsss_zoo.errors import WsssZooError
from wsss_zoo.normalization import IMAGENET

_FROZEN = {"stem": ("conv1a",), "stage2": ("conv1a", "b2", "b2_1", "b2_2")}
#: Block -> name under which its input, after batch norm and ReLU, is exposed.
_EXPOSED = {"b4": "conv3", "b5": "conv4", "b6": "conv5"}
#: What SSDD's encoder returns besides conv3 and conv6: another level as above, and two before batch norm.
_SSDD_ACTIVATED, _SSDD_SUMS = {"b3": "conv2", "b4": "conv3"}, {"b5": "conv4", "b6": "conv5"}


class BasicBlock(nn.Module):
    """Pre-activation block with two 3x3 convolutions; the shortcut convolution sees the activated input."""

    def __init__(
        self, channels: tuple[int, int, int], stride: int = 1, dilations: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        inputs, middle, outputs = channels
        first, second = dilations
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(inputs, middle, 3, stride, padding=first, dilation=first, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = nn.Conv2d(middle, outputs, 3, padding=second, dilation=second, bias=False)
        if inputs != outputs or stride != 1:
            self.conv_branch1 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Block result, and the activated input (which other heads read)."""
        activated = F.relu(self.bn_branch2a(x))
        shortcut = self.conv_branch1(activated) if hasattr(self, "conv_branch1") else x
        branch = self.conv_branch2a(activated)
        branch = self.conv_branch2b1(F.relu(self.bn_branch2b1(branch)))
        return shortcut + branch, activated


class Bottleneck(nn.Module):
    """Pre-activation 1x1, 3x3, 1x1 block with channel dropout; always has a shortcut convolution."""

    def __init__(self, inputs: int, outputs: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(inputs, outputs // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.conv_branch2b1 = nn.Conv2d(
            outputs // 4, outputs // 2, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.conv_branch2b2 = nn.Conv2d(outputs // 2, outputs, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Block result, and the activated input."""
        activated = F.relu(self.bn_branch2a(x))
        branch = self.conv_branch2a(activated)
        branch = self.conv_branch2b1(self.dropout(F.relu(self.bn_branch2b1(branch))))
        branch = self.conv_branch2b2(self.dropout(F.relu(self.bn_branch2b2(branch))))
        return self.conv_branch1(activated) + branch, activated


class ResNet38d(Backbone):
    """ResNet38d, 105 M parameters, stride 8.

    Exposes `conv3` (256 channels, stride 4), `conv4` (512), `conv5` (1024) and `conv6` (4096, stride 8): the
    inputs of blocks b4, b5, b6 after batch norm and ReLU, and the end. Batch norm is a fixed affine map:
    always in evaluation mode, never learnt.

    Args:
        frozen: convolutions without gradients: `"stem"` is conv1a (the bare backbone), `"stage2"` is conv1a
            and blocks b2 to b2_2 (every head of PSA, SEAM and SC-CAM).
        maps: `"activated"`, or what the encoder of SSDD's release returns, `"ssdd"`: also `conv2` (128,
            stride 2), the activated input of b3, and `conv4` and `conv5` as the residual sums before batch
            norm and ReLU.

    Raises:
        WsssZooError: another value of `frozen` or `maps`.
    """

    stages: tuple[Stage, ...] = (
        Stage("conv3", 256, 4),
        Stage("conv4", 512, 8),
        Stage("conv5", 1024, 8),
        Stage("conv6", 4096, 8),
    )
    normalization = IMAGENET
    norm = "frozen"

    def __init__(
        self,
        frozen: Literal["stem", "stage2"] = "stage2",
        maps: Literal["activated", "ssdd"] = "activated",
    ) -> None:
        super().__init__()
        if maps not in ("activated", "ssdd"):
            raise WsssZooError(f"resnet38d: maps is 'activated' or 'ssdd', got {maps!r}")
        self._activated, self._sums = (
            (_SSDD_ACTIVATED, _SSDD_SUMS) if maps == "ssdd" else (_EXPOSED, dict[str, str]())
        )
        if maps == "ssdd":
            self.stages = (Stage("conv2", 128, 2), *type(self).stages)
        if frozen not in _FROZEN:
            raise WsssZooError(f"resnet38d: frozen is 'stem' or 'stage2', got {frozen!r}")
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.b2 = BasicBlock((64, 128, 128), stride=2)
        self.b2_1 = BasicBlock((128, 128, 128))
        self.b2_2 = BasicBlock((128, 128, 128))
        self.b3 = BasicBlock((128, 256, 256), stride=2)
        self.b3_1 = BasicBlock((256, 256, 256))
        self.b3_2 = BasicBlock((256, 256, 256))
        self.b4 = BasicBlock((256, 512, 512), stride=2)
        for index in range(1, 6):
            self.add_module(f"b4_{index}", BasicBlock((512, 512, 512)))
        self.b5 = BasicBlock((512, 512, 1024), dilations=(1, 2))
        self.b5_1 = BasicBlock((1024, 512, 1024), dilations=(2, 2))
        self.b5_2 = BasicBlock((1024, 512, 1024), dilations=(2, 2))
        self.b6 = Bottleneck(1024, 2048, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(4096)
        self._blocks = [name for name, _ in self.named_children() if name.startswith("b") and name != "bn7"]
        for name in _FROZEN[frozen]:
            freeze(self.get_submodule(name))
        self.hold_norms()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps by name; heights and widths are those of the input over the stride, rounded up."""
        x = self.conv1a(images)
        maps = {}
        for name in self._blocks:
            if name in self._sums:
                maps[self._sums[name]] = x
            x, activated = self.get_submodule(name)(x)
            if name in self._activated:
                maps[self._activated[name]] = activated
        maps["conv6"] = F.relu(self.bn7(x))
        return maps
