"""Classifier with a pixel correlation module that refines its activation maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.seam.correlation import PixelCorrelation
from wsss_zoo.methods.seam.planes import clean_planes, image_scores, resize
from wsss_zoo.normalization import IMAGENET


class SEAMHead(nn.Module):
    """What SEAM adds to a backbone.

    Args:
        channels: of the deepest map.
        num_planes: C + 1. Plane 0 of the classifier is there as in the publication, but no loss reaches it:
            everything reads the background off the classes.
        dropout: rate of the channel dropout before the classifier.
        correlation: the pixel correlation module, or None.
    """

    def __init__(
        self, channels: int, num_planes: int, dropout: float, correlation: PixelCorrelation | None
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_planes, 1, bias=False)
        nn.init.xavier_uniform_(self.classifier.weight)
        self.correlation = correlation

    def forward(self, deepest: Tensor) -> Tensor:
        """Activations `(B, C + 1, h, w)`: the classifier at every position, signed, at least float32."""
        activations = self.classifier(self.dropout(deepest))
        return activations.to(torch.promote_types(activations.dtype, torch.float32))


class SEAMNetwork(nn.Module):
    """Backbone, 1x1 classifier, and the pixel correlation module.

    The image enters the module beside features; for backbones whose input is not of the scale of ImageNet
    normalisation (VGG16 from Caffe sees 0..255) it is brought to it, so that it does not drown them.

    Args:
        backbone: the feature extractor; its deepest map is classified.
        num_classes: foreground classes C.
        dropout: rate of the channel dropout before the classifier.
        pcm: with pixel correlation module.
        pcm_stages: names of the two feature levels that it compares; None: those before the deepest map.
        pcm_channels: what they are reduced to.

    Raises:
        WsssZooError: the backbone has no such stages, or too few.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        dropout: float = 0.5,
        pcm: bool = True,
        pcm_stages: tuple[str, str] | None = None,
        pcm_channels: tuple[int, int] = (64, 128),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pcm_stages: tuple[str, str] | None = None
        correlation = None
        if pcm:
            shallow, deep = _compared_stages(backbone, pcm_stages)
            self.pcm_stages = shallow.name, deep.name
            image_scale = sum(backbone.normalization.std) / sum(IMAGENET.std)
            correlation = PixelCorrelation((shallow.channels, deep.channels), pcm_channels, image_scale)
        self.head = SEAMHead(backbone.out_channels, num_classes + 1, dropout, correlation)

    def new_modules(self) -> Sequence[nn.Module]:
        """The parts that are trained from scratch."""
        return (self.head,)

    def forward_grid(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Activations and refined maps, `(B, C + 1, h, w)` each, on the grid of the deepest map."""
        maps = self.backbone(images)
        activations = self.head(maps[self.backbone.stages[-1].name])
        if self.pcm_stages is None or self.head.correlation is None:
            return activations, None
        shallow, deep = (maps[name] for name in self.pcm_stages)
        pcm = self.head.correlation
        features = pcm.features(images, shallow, deep, activations.shape[2:])
        return activations, pcm(clean_planes(activations), features)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Activations and refined maps at the size of the images.

        Args:
            images: `(B, 3, H, W)`.

        Returns:
            `cam` `(B, C + 1, H, W)`, the classifier at every position: signed, not normalised; and `cam_rv`
            `(B, C + 1, H, W)`, refined by the pixel correlation module: in [0, 1], None without it.
        """
        activations, refined = self.forward_grid(images)
        size = images.shape[2:]
        return resize(activations, size), None if refined is None else resize(refined, size)

    def classify(self, images: Tensor) -> Tensor:
        """Logits `(B, C)`: means of the enlarged activations, without the work of the correlation."""
        activations = self.head(self.backbone(images)[self.backbone.stages[-1].name])
        return image_scores(resize(activations, images.shape[2:]))


def _compared_stages(backbone: Backbone, names: tuple[str, str] | None) -> tuple[Stage, Stage]:
    stages = {stage.name: stage for stage in backbone.stages}
    if names is None and len(stages) < 3:
        raise WsssZooError(
            "SEAM compares pixels by two feature levels below the deepest map, the backbone exposes only "
            f"{', '.join(stages)}: choose another backbone, or pcm=False"
        )
    chosen = tuple(stages)[-3:-1] if names is None else tuple(names)
    if len(chosen) != 2:
        raise WsssZooError(f"pcm_stages are two names out of {', '.join(stages)}, got {names!r}")
    for name in chosen:
        if name not in stages:
            raise WsssZooError(f"pcm_stages: the backbone has no stage {name!r}; {suggest(name, stages)}")
    return stages[chosen[0]], stages[chosen[1]]
