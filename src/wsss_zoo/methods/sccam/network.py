"""One backbone, two classifiers: of the classes, and of the sub-categories inside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone
from wsss_zoo.errors import WsssZooError


class ClassOutputs(NamedTuple):
    """What the network gives in round 0, when there are no sub-categories.

    Attributes:
        logits: `(B, C)`.
        features: `(B, D)`, the pooled deepest map; in training after dropout.
        scores: `(B, C)`, sigmoid of the logits.
    """

    logits: Tensor
    features: Tensor
    scores: Tensor


class JointOutputs(NamedTuple):
    """What the network gives in later rounds; the first three as in round 0.

    Attributes:
        logits: `(B, C)`.
        features: `(B, D)`.
        scores: `(B, C)`.
        subcategory_logits: `(B, C*K)`; column `c * K + k` is sub-category k of class c.
        subcategory_scores: `(B, C*K)`, their sigmoid.
    """

    logits: Tensor
    features: Tensor
    scores: Tensor
    subcategory_logits: Tensor
    subcategory_scores: Tensor


class SCCAMHead(nn.Module):
    """Two 1x1 classifiers without bias.

    Args:
        channels: of the map that is classified, D.
        num_classes: foreground classes C.
        k: sub-categories of every class, K; 0 for no classifier of sub-categories.
    """

    def __init__(self, channels: int, num_classes: int, k: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(channels, num_classes, 1, bias=False)
        self.subcategories = nn.Conv2d(channels, num_classes * k, 1, bias=False) if k else None
        nn.init.xavier_uniform_(self.classifier.weight)
        if self.subcategories is not None:
            nn.init.xavier_uniform_(self.subcategories.weight)


class SCCAMNetwork(nn.Module):
    """Backbone, channel dropout, global average pooling, two classifiers.

    Args:
        backbone: the feature extractor; its deepest map is classified.
        num_classes: foreground classes C.
        k: sub-categories of every class, K. 0 is the network of round 0: the classifier of the classes alone.
        dropout: rate of the channel dropout in training.
    """

    def __init__(self, backbone: Backbone, num_classes: int, k: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout2d(dropout)
        self.head = SCCAMHead(backbone.out_channels, num_classes, k)

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch."""
        return (self.head,)

    def maps(self, images: Tensor) -> Tensor:
        """The deepest map `(B, D, h, w)`."""
        return self.backbone(images)[self.backbone.stages[-1].name]

    def image_features(self, images: Tensor) -> Tensor:
        """The deepest map averaged over positions: `(B, D)`; never with dropout."""
        return F.adaptive_avg_pool2d(self.maps(images), 1).flatten(1)

    def forward(self, images: Tensor, round_number: int | None = None) -> ClassOutputs | JointOutputs:
        """Logits, features and scores.

        Args:
            images: `(B, 3, H, W)`.
            round_number: 0 for the outputs of round 0, above for those of later rounds; None is what the
                network is built for: round 0 where `k` is 0, else later.

        Raises:
            WsssZooError: outputs of later rounds are asked of a network without sub-categories.
        """
        pooled = F.adaptive_avg_pool2d(self.dropout(self.maps(images)), 1)
        logits = self.head.classifier(pooled).flatten(1)
        outputs = ClassOutputs(logits, pooled.flatten(1), logits.sigmoid())
        if round_number == 0 or (round_number is None and self.head.subcategories is None):
            return outputs
        subcategory_logits = self._subcategories()(pooled).flatten(1)
        return JointOutputs(*outputs, subcategory_logits, subcategory_logits.sigmoid())

    def forward_cam(self, images: Tensor) -> Tensor:
        """Class activation maps `(B, C, h, w)`: the rectified classifier at every position, unnormalised."""
        return F.relu(self.head.classifier(self.maps(images)))

    def forward_two_cam(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Activation maps of both classifiers.

        Returns:
            `(B, C, h, w)` and `(B, C*K, h, w)`, rectified, unnormalised.

        Raises:
            WsssZooError: there are no sub-categories.
        """
        subcategories = self._subcategories()
        maps = self.maps(images)
        return F.relu(self.head.classifier(maps)), F.relu(subcategories(maps))

    def _subcategories(self) -> nn.Conv2d:
        if self.head.subcategories is None:
            raise WsssZooError(
                "SC-CAM: the network has no classifier of sub-categories (k=0, as in round 0); build it with "
                "k above 0, or load weights of a later round"
            )
        return self.head.subcategories


def merge_subcategories(maps: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Maps of the K sub-categories of each class to one map of the class.

    The K maps are divided by the maximum of them all (+ epsilon), not each by its own, so that a weak
    sub-category stays weak; then the largest of the K is taken at every position.

    Args:
        maps: `(..., K, H, W)`, not negative.
        epsilon: keeps empty maps empty.

    Returns:
        `(..., H, W)` in [0, 1).
    """
    return maps.amax(-3) / (maps.amax((-3, -2, -1))[..., None, None] + epsilon)
