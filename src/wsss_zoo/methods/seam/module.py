"""SEAM: self-supervised equivariant attention (Wang et al., CVPR 2020)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.optimization import optimizers_from_hparams, poly_schedule
from wsss_zoo.methods.seam.losses import classification, seam_losses
from wsss_zoo.methods.seam.network import SEAMNetwork
from wsss_zoo.methods.seam.planes import normalise_planes, resize
from wsss_zoo.methods.validation import ClassifierValidation
from wsss_zoo.normalization import Normalization


class SEAM(ClassifierValidation):
    """A classifier whose maps shall not depend on the size of the image, and a module that refines them.

    The network sees each batch twice, the second time at `view_scale`. The loss is the sum of the terms of
    `methods/seam/losses.py`; the switches choose them, and what inference takes:

    | er | pcm | views | terms | localization maps from |
    | --- | --- | --- | --- | --- |
    | no | no | 1 | classification: the baseline, a plain CAM | rectified activations |
    | yes | no | 2 | classification, ER | rectified activations |
    | no | yes | 2 | classification, min pooling, ECR | refined maps |
    | yes | yes | 2 | classification, min pooling, ER, ECR: as published | refined maps |

    `ohem` and `min_pooling` concern the refined maps and say nothing without `pcm`. Without `ohem`, ECR is
    the mean over all planes and positions. The ablation of the paper (table 1) adds ER, PCM and OHEM to the
    baseline in this order. What is not trained does not exist: without `pcm` there is no such module.

    As published: trained on crops of 448 (longer side 448 to 768, flip, colour jitter 0.3, 0.3, 0.3, 0.1) for
    8 epochs in batches of 8; inference at the scales 0.5, 1, 1.5, 2 with mirrors.

    Differences from the original: none in the network; augmentation draws other random numbers; maps where
    the official normalisation leaves values slightly below zero are zero there.

    Args:
        num_classes: foreground classes C.
        backbone: see `wsss_zoo.backbones.create_backbone`.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class (output_stride, ...).
        er: with equivariant regularisation.
        pcm: with pixel correlation module.
        ohem: ECR at the positions only where maps differ most.
        min_pooling: with the min-pooling term.
        view_scale: size of the second view over that of the first, rounded down (bilinear, corners aligned).
        dropout: rate of the channel dropout before the classifier.
        pcm_stages: names of the feature levels that the PCM compares; None: the two before the deepest map.
        pcm_channels: what they are reduced to.
        ohem_fraction: share of planes and positions that `ohem` keeps.
        min_pooling_fraction: share of positions that min pooling takes.
        optimizer: `sgd` as published, `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights.
        momentum: of SGD; None is the official effective value (see `methods.optimization`).
        head_lr_factor: learning rate of classifier and PCM over that of the backbone.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        poly_power: exponent of the learning-rate schedule.

    Raises:
        WsssZooError: unknown backbone, backbone argument, stage or (when training starts) optimizer; a
            fraction or scale out of range.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "localizer"

    def __init__(
        self,
        num_classes: int = 20,
        backbone: str = "resnet38d",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        er: bool = True,
        pcm: bool = True,
        ohem: bool = True,
        min_pooling: bool = True,
        view_scale: float = 0.3,
        dropout: float = 0.5,
        pcm_stages: tuple[str, str] | None = None,
        pcm_channels: tuple[int, int] = (64, 128),
        ohem_fraction: float = 0.2,
        min_pooling_fraction: float = 0.25,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        momentum: float | None = None,
        head_lr_factor: float = 10.0,
        caffe_biases: bool = True,
        poly_power: float = 0.9,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        for name in ("view_scale", "ohem_fraction", "min_pooling_fraction"):
            value = self.hparams[name]
            if not 0 < value <= 1:
                raise WsssZooError(f"SEAM: {name} lies above 0 and is at most 1, got {value!r}")
        features = create_backbone(backbone, backbone_weights, **(backbone_args or {}))
        self.network = SEAMNetwork(features, num_classes, dropout, pcm, pcm_stages, pcm_channels)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, C)`."""
        return self.network.classify(images)

    def activation_maps(self, images: Tensor) -> Tensor:
        """`(B, C, H, W)` at the size of the images, not negative, not normalised: what is summed over scales.

        Refined maps; without PCM, rectified activations.
        """
        activations, refined = self.network(images)
        maps = activations.relu() if refined is None else refined
        return maps[:, 1:]

    def merge_maps(self, maps: Tensor) -> Tensor:
        """Summed maps `(..., H, W)`, each from its minimum to its maximum onto [0, 1)."""
        return normalise_planes(maps)

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Localization maps at one scale.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`; maps of classes with 0 are zero.

        Returns:
            `(B, C, H, W)` in [0, 1).
        """
        return self.merge_maps(self.activation_maps(images) * labels[:, :, None, None])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The sum of the terms; each is logged as `train/loss_<term>`."""
        images, settings = batch["image"], self.hparams
        views = [self.network(images)]
        if settings["er"] or settings["pcm"]:
            size = [max(1, math.floor(settings["view_scale"] * side)) for side in images.shape[2:]]
            views.append(self.network(resize(images, size)))
        losses = seam_losses(
            views,
            batch["labels"],
            er=settings["er"],
            ohem_fraction=settings["ohem_fraction"] if settings["ohem"] else None,
            min_pooling_fraction=settings["min_pooling_fraction"] if settings["min_pooling"] else None,
        )
        loss = torch.stack(list(losses.values())).sum()
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/loss_{name}": value for name, value in losses.items()})
        return loss

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Multi-label soft margin loss."""
        return classification(logits, labels)

    def configure_optimizers(self) -> Any:
        """Four parameter groups and the poly schedule."""
        return optimizers_from_hparams(self, poly_schedule(self))
