"""CAM: the multi-label classifier of PSA and its class activation maps (Zhou et al., CVPR 2016)."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor
from torchmetrics.classification import MultilabelAveragePrecision

from wsss_zoo.backbones import create_backbone
from wsss_zoo.methods.cam.losses import multilabel_soft_margin
from wsss_zoo.methods.cam.network import CAMNetwork
from wsss_zoo.methods.optimization import configure_optimizers
from wsss_zoo.normalization import Normalization

class CAM(L.LightningModule):
    """The plain CAM baseline; defaults are those of PSA's classifier (Ahn and Kwak, CVPR 2018).

    Differences from the original: none in the network; batch order and augmentation draws differ. IRN's
    classifier is `backbone="resnet50_irn", weight_decay=1e-4, head_lr_factor=10`, with crops of 512.

    Args:
        num_classes: foreground classes C.
        backbone: see `wsss_zoo.backbones.create_backbone`.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class (output_stride, ...).
        dropout: rate of the channel dropout before pooling.
        optimizer: `sgd` as published, `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights; biases are not decayed.
        momentum: of SGD; None is the official effective value (see `methods.optimization`).
        head_lr_factor: learning rate of the classifier over that of the backbone; biases have twice theirs.
        poly_power: exponent of the learning-rate schedule.
    """

    kind = "localizer"

    def __init__(
        self,
        num_classes: int = 20,
        backbone: str = "resnet38d",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        dropout: float = 0.5,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.1,
        weight_decay: float = 5e-4,
        momentum: float | None = None,
        head_lr_factor: float = 10.0,
        poly_power: float = 0.9,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        features = create_backbone(backbone, backbone_weights, **(backbone_args or {}))
        self.network = CAMNetwork(features, num_classes, dropout, sqrt_cam=backbone == "vgg16")
        self.average_precision = MultilabelAveragePrecision(num_classes, average="none")

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, C)`."""
        return self.network(images)

    def activation_maps(self, images: Tensor) -> Tensor:
        """`(B, C, h, w)`, not negative, not normalised: what multi-scale inference sums."""
        return self.network.forward_cam(images)

    def merge_maps(self, maps: Tensor) -> Tensor:
        """Summed maps `(K, H, W)` divided by their maximum over positions (+ 1e-5), in [0, 1]."""
        return maps / (maps.amax((1, 2), keepdim=True) + 1e-5)

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Localization maps at one scale.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`; maps of classes with 0 are zero.

        Returns:
            `(B, C, H, W)` in [0, 1].
        """
        maps = self.activation_maps(images) * labels[:, :, None, None]
        maps = torch.nn.functional.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)
        return maps / (maps.amax((2, 3), keepdim=True) + 1e-5)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Multi-label soft margin loss."""
        loss = multilabel_soft_margin(self(batch["image"]), batch["labels"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Loss and mean average precision over the classes that occur."""
        logits = self(batch["image"])
        size = len(logits)
        self.log("val/loss", multilabel_soft_margin(logits, batch["labels"]), batch_size=size, sync_dist=True)
        self.average_precision.update(logits, batch["labels"].int())

    def on_validation_epoch_end(self) -> None:
        """Log `val/map`."""
        self.log("val/map", self.average_precision.compute().nanmean(), prog_bar=True)
        self.average_precision.reset()

    def configure_optimizers(self) -> Any:
        """Four parameter groups and the poly schedule."""
        p = self.hparams
        factors = (1.0, 2.0, p["head_lr_factor"], 2 * p["head_lr_factor"])
        return configure_optimizers(
            self.network,
            self.network.new_modules(),
            optimizer=p["optimizer"],
            lr=p["lr"],
            weight_decay=p["weight_decay"],
            momentum=p["momentum"],
            total_steps=int(self.trainer.estimated_stepping_batches),
            factors=factors,
            power=p["poly_power"],
        )
