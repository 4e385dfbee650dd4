"""Segmentation heads: what stands on top of a backbone's feature maps. All give logits at feature size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from wsss_zoo.backbones.backbone import Backbone, freeze_norms
from wsss_zoo.errors import WsssZooError


class LargeFOVHead(nn.Module):
    """fc8 of DeepLab-LargeFOV: one 1x1 convolution, N(0, 0.01)."""

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.source = backbone.stages[-1].name
        self.classifier = nn.Conv2d(backbone.out_channels, outputs, 1)
        _small_normal(self.classifier)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `(B, outputs, h, w)`."""
        return self.classifier(maps[self.source])


class BranchesHead(nn.Module):
    """fc8 of DeepLab's VGG16 with parallel branches: a 1x1 classifier on each, summed; N(0, 0.01).

    Branches are the maps of the backbone at its largest stride; one map makes it the `LargeFOVHead`.
    """

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.sources = [stage for stage in backbone.stages if stage.stride == backbone.out_stride]
        for index, stage in enumerate(self.sources, 1):
            layer = nn.Conv2d(stage.channels, outputs, 1)
            _small_normal(layer)
            self.add_module(f"fc8_{index}", layer)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `(B, outputs, h, w)`."""
        branches = enumerate(self.sources, 1)
        logits = [self.get_submodule(f"fc8_{index}")(maps[stage.name]) for index, stage in branches]
        return torch.stack(logits).sum(0)


class SummedASPPHead(nn.Module):
    """ASPP of DeepLab v2: four dilated 3x3 classifiers, summed; N(0, 0.01)."""

    def __init__(self, backbone: Backbone, outputs: int, rates: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.source = backbone.stages[-1].name
        self.branches = [f"c{index}" for index in range(len(rates))]
        for name, rate in zip(self.branches, rates, strict=True):
            layer = nn.Conv2d(backbone.out_channels, outputs, 3, padding=rate, dilation=rate)
            _small_normal(layer)
            self.add_module(name, layer)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `(B, outputs, h, w)`."""
        x = maps[self.source]
        return torch.stack([self.get_submodule(name)(x) for name in self.branches]).sum(0)


class SEAMHead(nn.Module):
    """Head of SEAM's retraining code: two convolution blocks of 512, dropout, classifier.

    Args:
        backbone: the feature extractor.
        outputs: number of labels, background included.
        momentum: of the running statistics of its batch norms (they learn, the encoder's do not).
    """

    def __init__(self, backbone: Backbone, outputs: int, momentum: float = 3e-4) -> None:
        super().__init__()
        self.source = backbone.stages[-1].name
        self.conv_fov = nn.Conv2d(backbone.out_channels, 512, 3, padding=12, dilation=12, bias=False)
        self.bn_fov = nn.BatchNorm2d(512, momentum=momentum)
        self.conv_fov2 = nn.Conv2d(512, 512, 1, bias=False)
        self.bn_fov2 = nn.BatchNorm2d(512, momentum=momentum)
        self.dropout = nn.Dropout(0.5)
        self.cls_conv = nn.Conv2d(512, outputs, 1)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `(B, outputs, h, w)`."""
        x = F.relu(self.bn_fov(self.conv_fov(maps[self.source])))
        x = F.relu(self.bn_fov2(self.conv_fov2(x)))
        return self.cls_conv(self.dropout(x))


class PSAHead(nn.Module):
    """Head of PSA's segmentation network, as SSDD has it: two dilated 3x3 convolutions, reflection padded.

    Its batch norm is a constant (evaluation mode, not learnt). Feature maps must be larger than 12 on both
    sides, that is images of at least 104 pixels.
    """

    def __init__(self, backbone: Backbone, outputs: int) -> None:
        super().__init__()
        self.source = backbone.stages[-1].name
        self.seg1 = _ReflectedBlock(backbone.out_channels, 512)
        self.seg2 = nn.Conv2d(512, outputs, 3, padding=12, dilation=12, padding_mode="reflect")
        for layer in (self.seg1.conv1, self.seg2):
            nn.init.kaiming_normal_(layer.weight)
            _zero_bias(layer)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `(B, outputs, h, w)`.

        Raises:
            WsssZooError: the feature maps are too small for the padding.
        """
        x = maps[self.source]
        if min(x.shape[2:]) <= 12:
            raise WsssZooError(
                f"the resnet38_psa head needs feature maps larger than 12 x 12, got {x.shape[2]} x "
                f"{x.shape[3]}: use images of at least 104 pixels"
            )
        return self.seg2(self.seg1(x))


class _ReflectedBlock(nn.Module):
    """Dilated 3x3 convolution with reflection padding, constant batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=12, dilation=12, padding_mode="reflect")
        self.bn1 = nn.BatchNorm2d(outputs, eps=1e-3)
        freeze_norms(self)

    def train(self, mode: bool = True) -> _ReflectedBlock:
        super().train(mode)
        freeze_norms(self)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn1(self.conv1(x)))


class ASPPHead(nn.Module):
    """ASPP of DeepLab v3 on any backbone, with the decoder of v3+ where asked for.

    A 1x1 and dilated 3x3 convolutions and image pooling, concatenated, 1x1 (Chen et al., 2017); the decoder
    joins a stride-4 map reduced to 48 channels and adds two 3x3 convolutions (Chen et al., 2018).

    Differences from the original: torchvision's ASPP, which has a dropout of 0.5 at its end.

    Args:
        backbone: the feature extractor.
        outputs: number of labels, background included.
        channels: of the ASPP branches and the decoder.
        rates: dilations of the 3x3 branches; None is 6, 12, 18, doubled for backbones of stride 8.
        decoder: join a stride-4 map of the backbone (v3+).

    Raises:
        WsssZooError: the decoder finds no stride-4 map.
    """

    def __init__(
        self,
        backbone: Backbone,
        outputs: int,
        channels: int = 256,
        rates: Sequence[int] | None = None,
        decoder: bool = False,
    ) -> None:
        super().__init__()
        self.source = backbone.stages[-1].name
        if rates is None:
            rates = (12, 24, 36) if backbone.out_stride == 8 else (6, 12, 18)
        self.aspp = ASPP(backbone.out_channels, list(rates), channels)
        self.shallow: str | None = None
        if decoder:
            candidates = [stage for stage in backbone.stages if stage.stride == 4]
            if not candidates:
                strides = ", ".join(str(stage.stride) for stage in backbone.stages)
                raise WsssZooError(
                    "the v3plus decoder needs a backbone that exposes a stride-4 map, this one has strides "
                    f"{strides}; use variant=aspp or expose more maps (backbone_args.out_indices)"
                )
            self.shallow = candidates[-1].name
            self.reduce = _conv_block(candidates[-1].channels, 48, 1)
            self.refine = nn.Sequential(
                _conv_block(channels + 48, channels, 3), _conv_block(channels, channels, 3)
            )
        self.classifier = nn.Conv2d(channels, outputs, 1)

    def forward(self, maps: Mapping[str, Tensor]) -> Tensor:
        """Logits `(B, outputs, h, w)`, at stride 4 with the decoder.

        Raises:
            WsssZooError: a training batch of one image, for which image pooling cannot be normalised.
        """
        x = maps[self.source]
        if self.training and len(x) == 1:
            raise WsssZooError(
                "the aspp and v3plus variants cannot train on a batch of one image, because the batch norm "
                "after image pooling sees a single value; use data.batch_size >= 2 (for each GPU)"
            )
        x = self.aspp(x)
        if self.shallow is not None:
            low = self.reduce(maps[self.shallow])
            x = torch.cat([F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=False), low], 1)
            x = self.refine(x)
        return self.classifier(x)


def _conv_block(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def _small_normal(layer: nn.Conv2d) -> None:
    nn.init.normal_(layer.weight, std=0.01)
    _zero_bias(layer)


def _zero_bias(layer: nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
