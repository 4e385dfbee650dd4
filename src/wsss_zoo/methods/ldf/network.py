"""Two decoders on one backbone, one for each half of a decoupled label, that exchange features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, freeze
from wsss_zoo.backbones.resnet import ResNet
from wsss_zoo.errors import WsssZooError

#: Strides of the feature maps that are decoded, shallow to deep.
STRIDES = (4, 8, 16, 32)


class LDFNetwork(nn.Module):
    """The network of LDF (Wei et al., CVPR 2020) as its authors released it.

    Every feature map of the backbone is squeezed to a few channels, once for the body and once for the detail
    branch, and each branch decodes its four maps. The interaction encoder turns the two results into
    additions to the squeezed maps, with which the same decoders run again.

    The first convolution of a `ResNet` and its batch norm keep their weights, as published (no optimiser sees
    them); their running statistics follow the data.

    Args:
        backbone: the feature extractor, with maps at the strides 4, 8, 16 and 32.
        channels: of the squeezed maps and everything after them.
        interactions: how often the branches exchange features; each time gives three more outputs.

    Raises:
        WsssZooError: the backbone lacks a stride, or `channels` or `interactions` is out of range.
    """

    def __init__(self, backbone: Backbone, channels: int = 64, interactions: int = 1) -> None:
        super().__init__()
        if channels < 1 or interactions < 0:
            raise WsssZooError(
                f"LDF: channels is at least 1 and interactions at least 0, got {channels} and {interactions}"
            )
        # of several maps with the same stride the deepest counts
        at_stride = {stage.stride: stage for stage in backbone.stages}
        if not set(STRIDES) <= set(at_stride):
            raise WsssZooError(
                "LDF decodes feature maps at the strides 4, 8, 16 and 32, the backbone "
                f"{type(backbone).__name__} has {', '.join(str(stage.stride) for stage in backbone.stages)}; "
                "leave out output_stride, or choose resnet50, resnet101 or a pyramid such as timm/pvt_v2_b2"
            )
        self.backbone = backbone
        if isinstance(backbone, ResNet):
            freeze(backbone.conv1)
            freeze(backbone.bn1)
        self.interactions = interactions
        self.levels = tuple(at_stride[stride].name for stride in STRIDES)
        widths = [at_stride[stride].channels for stride in STRIDES]
        self.body_squeezes = nn.ModuleList(_squeeze(width, channels) for width in widths)
        self.detail_squeezes = nn.ModuleList(_squeeze(width, channels) for width in widths)
        self.body_decoder = Decoder(channels)
        self.detail_decoder = Decoder(channels)
        # without an exchange its parameters would never get a gradient, at which distributed training stops
        self.interaction = InteractionEncoder(channels) if interactions else None
        self.body_head = nn.Conv2d(channels, 1, 3, padding=1)
        self.detail_head = nn.Conv2d(channels, 1, 3, padding=1)
        self.saliency_head = nn.Sequential(
            *_convolution(2 * channels, channels), nn.Conv2d(channels, 1, 3, padding=1)
        )
        for part in self.new_modules():
            _initialise(part)

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch: all but the backbone."""
        return [module for name, module in self.named_children() if name != "backbone"]

    def forward(self, images: Tensor, size: Sequence[int] | None = None) -> tuple[Tensor, ...]:
        """Logits of every pass.

        Args:
            images: normalised `(B, 3, H, W)`, both sides multiples of 32.
            size: `(h, w)` of the result; None is the size of the images.

        Returns:
            body, detail and saliency of the first pass, then of the second: with one interaction six logits
            `(B, 1, h, w)`, resized (bilinear) from a quarter of the size of the images.

        Raises:
            WsssZooError: a side of the images is not a multiple of 32.
        """
        height, width = images.shape[2:]
        if height % STRIDES[-1] or width % STRIDES[-1]:
            # the backbone rounds odd sizes up, the pooling of the interaction encoder down
            raise WsssZooError(
                f"LDF takes images whose height and width are multiples of {STRIDES[-1]}, got "
                f"{height} x {width}; resize them first (LDF.saliency does)"
            )
        size = (height, width) if size is None else tuple(size)
        maps = self.backbone(images)
        levels = [maps[name] for name in self.levels]
        body = [squeeze(x) for squeeze, x in zip(self.body_squeezes, levels, strict=True)]
        detail = [squeeze(x) for squeeze, x in zip(self.detail_squeezes, levels, strict=True)]
        logits, features = self._decode(body, detail, size)
        for _ in range(self.interactions):
            assert self.interaction is not None
            more_body, more_detail = self.interaction(features)
            further, features = self._decode(_add(body, more_body), _add(detail, more_detail), size)
            logits += further
        return logits

    def _decode(
        self, body: Sequence[Tensor], detail: Sequence[Tensor], size: Sequence[int]
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """One pass: its three logits, and the features of both branches."""
        body_features = self.body_decoder(body)
        detail_features = self.detail_decoder(detail)
        features = torch.cat([body_features, detail_features], 1)
        maps = (
            self.body_head(body_features),
            self.detail_head(detail_features),
            self.saliency_head(features),
        )
        return tuple(_resize(x, size) for x in maps), features


class Decoder(nn.Module):
    """Merges four maps from deep to shallow by addition, with a convolution after each.

    Args:
        channels: of every map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        #: Deepest first.
        self.blocks = nn.ModuleList(_convolution(channels, channels) for _ in STRIDES)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps `(B, channels, h, w)` shallow to deep -> features `(B, channels, h, w)` of the shallowest."""
        x = self.blocks[0](maps[-1])
        for block, level in zip(self.blocks[1:], reversed(maps[:-1]), strict=True):
            x = block(level + _resize(x, level.shape[2:]))
        return x


class InteractionEncoder(nn.Module):
    """Turns the features of both branches into a pyramid for either.

    Args:
        channels: of every map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        inputs = (2 * channels, *(channels for _ in STRIDES[1:]))
        self.trunk = nn.ModuleList(_convolution(count, channels) for count in inputs)
        self.body_heads = nn.ModuleList(_convolution(channels, channels) for _ in STRIDES)
        self.detail_heads = nn.ModuleList(_convolution(channels, channels) for _ in STRIDES)

    def forward(self, features: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Both branches' features, together `(B, 2 * channels, h, w)`.

        Returns:
            Maps `(B, channels, h, w)` for the body and for the detail decoder, shallow to deep, each half as
            large as the one before.
        """
        body, detail = [], []
        x = features
        for level, block in enumerate(self.trunk):
            x = block(F.max_pool2d(x, 2) if level else x)
            body.append(self.body_heads[level](x))
            detail.append(self.detail_heads[level](x))
        return body, detail


def _squeeze(inputs: int, channels: int) -> nn.Sequential:
    """1x1 and 3x3 convolution without anything between them, then batch norm and ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, channels, 1), *_convolution(channels, channels))


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _initialise(part: nn.Module) -> None:
    """Normal weights by fan-in (He et al., 2015), biases 0; batch norm starts at 1 and 0 by itself."""
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _add(maps: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    return [x + y for x, y in zip(maps, others, strict=True)]


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)
