"""The classifier whose weights, applied at every position, give class activation maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone


class CAMNetwork(nn.Module):
    """Backbone, channel dropout, global average pooling, 1x1 classifier without bias.

    Args:
        backbone: the feature extractor; its deepest map is classified.
        num_classes: foreground classes C.
        dropout: rate of the channel dropout in training.
        sqrt_cam: square root of the activation maps (PSA does so for VGG16).
    """

    def __init__(
        self, backbone: Backbone, num_classes: int, dropout: float = 0.5, sqrt_cam: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(backbone.out_channels, num_classes, 1, bias=False)
        nn.init.xavier_uniform_(self.classifier.weight)
        self.sqrt_cam = sqrt_cam

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch."""
        return (self.classifier,)

    def features(self, images: Tensor) -> Tensor:
        """The deepest map `(B, D, h, w)`."""
        return self.backbone(images)[self.backbone.stages[-1].name]

    def image_features(self, images: Tensor) -> Tensor:
        """The deepest map averaged over positions: `(B, D)`; never with dropout."""
        return F.adaptive_avg_pool2d(self.features(images), 1).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, C)`."""
        pooled = F.adaptive_avg_pool2d(self.dropout(self.features(images)), 1)
        return self.classifier(pooled).flatten(1)

    def forward_cam(self, images: Tensor) -> Tensor:
        """Class activation maps `(B, C, h, w)`: rectified classifier at every position, unnormalised."""
        maps = F.relu(self.classifier(self.features(images)))
        return maps.sqrt() if self.sqrt_cam else maps
