"""Backbone and head; the multi-scale wrapper of DeepLab v2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone


class DeepLabNetwork(nn.Module):
    """A backbone with a segmentation head.

    Args:
        backbone: the feature extractor.
        head: takes the backbone's maps, gives logits.
        scales: further scales of the input that are seen inside the network (the MSC wrapper of DeepLab v2:
            0.5 and 0.75); empty for none.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, scales: Sequence[float] = ()) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.scales = tuple(scales)

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch."""
        return (self.head,)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Logits `(B, C + 1, h, w)` at feature size.

        With further scales: in training the list [full, each scale at its own size, maximum], in evaluation
        the element-wise maximum over scales.
        """
        logits = self._single(images)
        if not self.scales:
            return logits
        others = [
            self._single(
                F.interpolate(
                    images,
                    scale_factor=scale,
                    mode="bilinear",
                    align_corners=False,
                    recompute_scale_factor=False,
                )
            )
            for scale in self.scales
        ]
        size = logits.shape[2:]
        resized = [F.interpolate(x, size, mode="bilinear", align_corners=False) for x in others]
        maximum = torch.stack([logits, *resized]).amax(0)
        return [logits, *others, maximum] if self.training else maximum

    def _single(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))
