"""Encoder, segmentation heads and difference detectors of SSDD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.ssdd.difference import DifferenceDetector
from wsss_zoo.methods.ssdd.layers import ConvBlock, initialise, reflected_conv

#: Stride of the grid on which masks are compared and losses taken.
GRID_STRIDE = 4


class SegmentationHead(nn.Module):
    """Two dilated 3x3 convolutions with reflection padding.

    Args:
        inputs: channels of the deepest map.
        num_labels: C + 1.
        channels: between the two convolutions.
        dilation: of both.
        enlarge: factor from the deepest map to the grid of stride 4.
    """

    def __init__(
        self, inputs: int, num_labels: int, channels: int = 512, dilation: int = 12, enlarge: int = 2
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.enlarge = enlarge
        self.hidden = ConvBlock(inputs, channels, 3, dilation, bias=True)
        self.classifier = reflected_conv(channels, num_labels, 3, dilation, bias=True)
        initialise(self)

    def forward(self, deepest: Tensor, size: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Logits and what they are made of.

        Args:
            deepest: `(B, inputs, h, w)`, larger than the dilation on both sides.
            size: of the result (bilinear, half-pixel); None: `enlarge` times that of the map.

        Returns:
            Logits `(B, C + 1, *size)` and features `(B, channels, *size)`.

        Raises:
            WsssZooError: the map is too small for the padding.
        """
        height, width = deepest.shape[2:]
        if min(height, width) <= self.dilation:
            raise WsssZooError(
                f"SSDD's head pads by reflection and needs feature maps larger than its dilation of "
                f"{self.dilation} on both sides, got {height} x {width}: use larger images (104 pixels for "
                "stride 8 and dilation 12), or a smaller head_dilation"
            )
        hidden = self.hidden(deepest)
        target = tuple(size) if size is not None else (self.enlarge * height, self.enlarge * width)
        logits, hidden = (_resize(x, target) for x in (self.classifier(hidden), hidden))
        return logits, hidden


class HeadOutputs(NamedTuple):
    """What the heads make of a batch, on the grid of stride 4.

    Attributes:
        logits: of each head, main first, `(B, C + 1, h, w)`.
        features: of each head, `(B, channels, h, w)`.
        shallow: `(B, channels, h, w)`.
    """

    logits: list[Tensor]
    features: list[Tensor]
    shallow: Tensor


class SSDDNetwork(nn.Module):
    """A backbone with a main head, perhaps a sub head, and difference detectors on them.

    Detector k reads the features of head k.

    Args:
        backbone: the feature extractor.
        num_classes: foreground classes C.
        head_channels: inside the segmentation heads.
        head_dilation: of the segmentation heads.
        sub_head: with a second segmentation head.
        detectors: how many, 0 to the number of heads.
        detector_channels: inside the difference detectors.
        shallow: name of the shallow level, of stride 2 (then averaged over cells of 2 x 2) or 4; None: the
            first of stride 2, without one the first of stride 4. Without detectors none is needed.

    Raises:
        WsssZooError: the backbone has no such level, or the stride of its deepest map is no multiple of 4.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        head_channels: int = 512,
        head_dilation: int = 12,
        sub_head: bool = True,
        detectors: int = 2,
        detector_channels: int = 256,
        shallow: str | None = None,
    ) -> None:
        super().__init__()
        if backbone.out_stride % GRID_STRIDE:
            raise WsssZooError(
                f"SSDD compares masks on a grid of stride {GRID_STRIDE}; the deepest map of the backbone has "
                f"stride {backbone.out_stride}, which is no multiple of it: choose another backbone"
            )
        labels, enlarge = num_classes + 1, backbone.out_stride // GRID_STRIDE
        arguments = (backbone.out_channels, labels, head_channels, head_dilation, enlarge)
        self.backbone = backbone
        self.head = SegmentationHead(*arguments)
        self.sub_head = SegmentationHead(*arguments) if sub_head else None
        self.shallow = _shallow_stage(backbone, shallow) if detectors else None
        width = 0 if self.shallow is None else self.shallow.channels
        self.detectors = nn.ModuleList(
            DifferenceDetector(head_channels, width, labels, detector_channels) for _ in range(detectors)
        )

    @property
    def heads(self) -> list[SegmentationHead]:
        """The segmentation heads, main first."""
        return [self.head] if self.sub_head is None else [self.head, self.sub_head]

    def detector(self, index: int) -> DifferenceDetector:
        """A difference detector, the one of the main head first."""
        detector = self.detectors[index]
        assert isinstance(detector, DifferenceDetector)
        return detector

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch."""
        return (*self.heads, self.detectors)

    def encoder(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of the backbone, shallow to deep; of ResNet38d `conv2` to `conv6` as in the release."""
        return tuple(self.backbone(images).values())

    def forward(self, images: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Logits `(B, C + 1, h, w)` of the main head, on the grid of stride 4 or at a size."""
        return self.head(self.encoder(images)[-1], size)[0]

    def outputs(self, images: Tensor) -> HeadOutputs:
        """Everything that the difference detectors read.

        Args:
            images: `(B, 3, H, W)`, normalised.

        Raises:
            WsssZooError: the images are too small, or the network has no detectors.
        """
        if self.shallow is None:
            raise WsssZooError("this network was built without difference detectors: it segments, no more")
        maps = self.backbone(images)
        deepest = maps[self.backbone.stages[-1].name]
        logits, features = zip(*(head(deepest) for head in self.heads), strict=True)
        level = maps[self.shallow.name]
        if self.shallow.stride == 2:
            level = F.avg_pool2d(level, 2, ceil_mode=True)
        # sides that are no multiple of the stride are rounded differently
        return HeadOutputs(list(logits), list(features), _resize(level, logits[0].shape[2:]))


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if x.shape[2:] == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def _shallow_stage(backbone: Backbone, name: str | None) -> Stage:
    stages = {stage.name: stage for stage in backbone.stages}
    if name is not None:
        if name not in stages:
            raise WsssZooError(f"shallow: the backbone has no level {name!r}; {suggest(name, stages)}")
        if stages[name].stride not in (2, 4):
            raise WsssZooError(f"shallow: a level has stride 2 or 4, {name} has {stages[name].stride}")
        return stages[name]
    for stride in (2, 4):
        found = [stage for stage in backbone.stages if stage.stride == stride]
        if found:
            return found[0]
    strides = ", ".join(str(stage.stride) for stage in backbone.stages)
    raise WsssZooError(
        f"the difference detectors read a level of stride 2 or 4, this backbone exposes strides {strides}: "
        "choose another backbone or expose more levels (backbone_args.out_indices)"
    )
