"""CAM: the multi-label classifier of PSA and its class activation maps (Zhou et al., CVPR 2016)."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.methods.cam.losses import multilabel_soft_margin
from wsss_zoo.methods.cam.network import CAMNetwork
from wsss_zoo.methods.optimization import optimizers_from_hparams, poly_schedule
from wsss_zoo.methods.validation import ClassifierValidation
from wsss_zoo.normalization import Normalization


class CAM(ClassifierValidation):
    """The plain CAM baseline; defaults are those of PSA's classifier (Ahn and Kwak, CVPR 2018).

    IRN's classifier (Ahn, Cho and Kwak, CVPR 2019) is `backbone="resnet50_irn"`, `dropout=0.0`,
    `weight_decay=1e-4`, `caffe_biases=False`, trained on crops of 512 without colour jitter.

    Differences from the original: none in the network; augmentation draws other random numbers.

    Args:
        num_classes: foreground classes C.
        backbone: see `wsss_zoo.backbones.create_backbone`.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class (output_stride, ...).
        dropout: rate of the channel dropout before pooling.
        sqrt_cam: square root of the activation maps; None means as published: for `vgg16` only.
        optimizer: `sgd` as published, `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights.
        momentum: of SGD; None is the official effective value (see `methods.optimization`).
        head_lr_factor: learning rate of the classifier over that of the backbone.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        poly_power: exponent of the learning-rate schedule.

    Raises:
        WsssZooError: unknown backbone, backbone argument or (when training starts) optimizer.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "localizer"

    def __init__(
        self,
        num_classes: int = 20,
        backbone: str = "resnet38d",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        dropout: float = 0.5,
        sqrt_cam: bool | None = None,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        momentum: float | None = None,
        head_lr_factor: float = 10.0,
        caffe_biases: bool = True,
        poly_power: float = 0.9,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        features = create_backbone(backbone, backbone_weights, **(backbone_args or {}))
        sqrt_cam = backbone == "vgg16" if sqrt_cam is None else sqrt_cam
        self.network = CAMNetwork(features, num_classes, dropout, sqrt_cam)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, C)`."""
        return self.network(images)

    def image_features(self, images: Tensor) -> Tensor:
        """What SC-CAM clusters: `(B, D)`, the pooled deepest map, without dropout, not normalised."""
        return self.network.image_features(images)

    def activation_maps(self, images: Tensor) -> Tensor:
        """`(B, C, h, w)`, not negative, not normalised: what multi-scale inference sums."""
        return self.network.forward_cam(images)

    def merge_maps(self, maps: Tensor) -> Tensor:
        """Summed maps `(..., H, W)` divided by their maximum over positions (+ 1e-5): in [0, 1)."""
        return maps / (maps.amax((-2, -1), keepdim=True) + 1e-5)

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Localization maps at one scale.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`; maps of classes with 0 are zero.

        Returns:
            `(B, C, H, W)` in [0, 1).
        """
        maps = self.activation_maps(images) * labels[:, :, None, None]
        maps = F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)
        return self.merge_maps(maps)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Multi-label soft margin loss."""
        loss = multilabel_soft_margin(self(batch["image"]), batch["labels"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Multi-label soft margin loss."""
        return multilabel_soft_margin(logits, labels)

    def configure_optimizers(self) -> Any:
        """Four parameter groups and the poly schedule."""
        return optimizers_from_hparams(self, poly_schedule(self))
