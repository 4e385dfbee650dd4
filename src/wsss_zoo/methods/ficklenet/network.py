"""A backbone and FickleNet's stochastic classifier on its deepest map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone
from wsss_zoo.methods.ficklenet.head import FickleHead
from wsss_zoo.methods.ficklenet.localization import sample_maps


class FickleNetwork(nn.Module):
    """Backbone and stochastic classifier.

    Args:
        backbone: the feature extractor; its deepest map is classified.
        head: the classifier.
    """

    def __init__(self, backbone: Backbone, head: FickleHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch."""
        return (self.head,)

    def features(self, images: Tensor) -> Tensor:
        """The deepest map `(B, D, h, w)`."""
        return self.backbone(images)[self.backbone.stages[-1].name]

    def forward(
        self, images: Tensor, generator: torch.Generator | None = None, stochastic: bool = True
    ) -> Tensor:
        """Logits `(B, C)`; see `FickleHead.forward`."""
        return self.head(self.features(images), generator, stochastic)

    def score_maps(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scores of all windows of one selection an image `(B, C, h, w)`; their means are logits."""
        features = self.features(images)
        return self.head.score_maps(features, self.head.draw(len(features), features, generator))

    @torch.no_grad()
    def localize(
        self,
        images: Tensor,
        labels: Tensor,
        n: int = 200,
        threshold: float = 0.35,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Where any of n maps is above a threshold, and the average map (Lee et al., section 3.3).

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`; classes with 0 are nowhere.
            n: maps of every image.
            threshold: of maps that are divided by their maximum.
            generator: on the device of the images; None: torch's own.

        Returns:
            bool and float `(B, C, h, w)`.
        """
        features = self.features(images)
        shape = (*labels.shape, *features.shape[2:])
        anywhere, mean = features.new_zeros(shape, dtype=torch.bool), features.new_zeros(shape)
        for index, present in enumerate(labels > 0):
            classes = torch.nonzero(present).flatten().to(features.device)
            maps = sample_maps(self.head, features[index : index + 1], classes, n, generator)
            anywhere[index, classes] = maps.maximum > threshold
            mean[index, classes] = maps.mean.to(mean)
        return anywhere, mean
