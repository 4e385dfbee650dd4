"""DeepLab as a LightningModule: one class, the variants that the field retrains on pseudo labels."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import lightning as L
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.methods.deeplab.heads import ASPPHead, LargeFOVHead, PSAHead, SEAMHead, SummedASPPHead
from wsss_zoo.methods.deeplab.losses import multi_scale_loss, segmentation_loss
from wsss_zoo.methods.deeplab.network import DeepLabNetwork
from wsss_zoo.methods.optimization import configure_optimizers
from wsss_zoo.metrics import MeanIoU
from wsss_zoo.normalization import Normalization


class Settings(NamedTuple):
    """What a variant fixes where the user gives nothing."""

    backbone: str
    lr: float
    weight_decay: float
    refresh: int
    loss_at: Literal["logits", "mask"]
    align_corners: bool


VARIANTS: dict[str, Settings] = {
    # Chen et al. 2015 (Caffe), as SEC and DSRG train it
    "largefov": Settings("vgg16_largefov", 1e-3, 5e-4, 1, "logits", False),
    # deeplab-pytorch: lr 2.5e-4, schedule refreshed every 10 iterations
    "v2": Settings("resnet101_msra", 2.5e-4, 5e-4, 10, "logits", False),
    # SEAM's retraining code
    "resnet38_seam": Settings("resnet38d", 1e-3, 5e-4, 1, "mask", True),
    # PSA's segmentation network as SSDD has it (SSDD trains it with a cosine schedule: its own method)
    "resnet38_psa": Settings("resnet38d", 1e-3, 5e-4, 1, "mask", False),
    # DeepLab v3 and v3+; 7e-3 is for batches of 16, scale it linearly
    "aspp": Settings("resnet101", 7e-3, 4e-5, 1, "mask", False),
    "v3plus": Settings("resnet101", 7e-3, 4e-5, 1, "mask", False),
}


class DeepLab(L.LightningModule):
    """Segmentation network, trained with cross entropy on masks.

    Differences from the originals: v2 starts from torchvision's ResNet-101 (ImageNet) unless a file is given;
    published WSSS numbers often start from COCO, which is worth several points. LargeFOV's initial weights are
    subsampled from torchvision's VGG16 instead of the authors' `vgg16_20M`.

    Args:
        variant: `largefov` (VGG16), `v2` (ResNet-101, summed ASPP, three scales inside), `resnet38_seam`,
            `resnet38_psa`, `aspp` (DeepLab v3 on any backbone), `v3plus` (with decoder).
        num_classes: foreground classes C; the network has C + 1 outputs.
        backbone: see `create_backbone`; None is the variant's own.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class.
        aspp_channels: `aspp` and `v3plus`: channels of the branches.
        aspp_rates: dilations of the branches; None is 6, 12, 18 (v3) or 6, 12, 18, 24 (v2).
        optimizer: `sgd`, or `adamw` for modern backbones.
        lr: base learning rate; None is the variant's own.
        weight_decay: of weights; None is the variant's own.
        momentum: of SGD.
        head_lr_factor: learning rate of the head over that of the backbone; biases have twice theirs.
        poly_power: exponent of the schedule.
        poly_refresh: steps between changes of the learning rate; None is the variant's own.
    """

    kind = "segmenter"

    def __init__(
        self,
        variant: Literal["largefov", "v2", "resnet38_seam", "resnet38_psa", "aspp", "v3plus"] = "v2",
        num_classes: int = 20,
        backbone: str | None = None,
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        aspp_channels: int = 256,
        aspp_rates: tuple[int, ...] | None = None,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float | None = None,
        weight_decay: float | None = None,
        momentum: float = 0.9,
        head_lr_factor: float = 10.0,
        poly_power: float = 0.9,
        poly_refresh: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.settings = VARIANTS[variant]
        features = create_backbone(
            backbone or self.settings.backbone, backbone_weights, **(backbone_args or {})
        )
        outputs = num_classes + 1
        if variant == "largefov":
            self.network = DeepLabNetwork(features, LargeFOVHead(features, outputs))
        elif variant == "v2":
            head = SummedASPPHead(features, outputs, aspp_rates or (6, 12, 18, 24))
            self.network = DeepLabNetwork(features, head, scales=(0.5, 0.75))
        elif variant == "resnet38_seam":
            self.network = DeepLabNetwork(features, SEAMHead(features, outputs))
        elif variant == "resnet38_psa":
            self.network = DeepLabNetwork(features, PSAHead(features, outputs))
        else:
            rates = aspp_rates or (6, 12, 18)
            decoder = variant == "v3plus"
            self.network = DeepLabNetwork(
                features, ASPPHead(features, outputs, aspp_channels, rates, decoder)
            )
        self.val_iou = MeanIoU(outputs)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Logits `(B, C + 1, h, w)` at feature size; the list of all scales for `v2` in training."""
        return self.network(images)

    def segment(self, images: Tensor) -> Tensor:
        """Probabilities `(B, C + 1, H, W)` at the size of the images, one scale."""
        logits = self(images)
        assert isinstance(logits, Tensor)
        align = self.settings.align_corners
        return F.interpolate(logits, images.shape[2:], mode="bilinear", align_corners=align).softmax(1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Cross entropy; pixels with 255 are ignored."""
        outputs, mask = self(batch["image"]), batch["mask"]
        if isinstance(outputs, list):
            loss = multi_scale_loss(outputs, mask)
        else:
            loss = segmentation_loss(outputs, mask, self.settings.loss_at, self.settings.align_corners)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count pixels of the validation images, at one scale."""
        self.val_iou.update(self.segment(batch["image"]).argmax(1), batch["mask"])

    def on_validation_epoch_end(self) -> None:
        """Log `val/miou`."""
        self.log("val/miou", self.val_iou.compute()["miou"].float(), prog_bar=True)
        self.val_iou.reset()

    def configure_optimizers(self) -> Any:
        """Four parameter groups (for v2 the first is all of the backbone) and the poly schedule."""
        p = self.hparams
        factors = (1.0, 2.0, p["head_lr_factor"], 2 * p["head_lr_factor"])
        return configure_optimizers(
            self.network,
            self.network.new_modules(),
            optimizer=p["optimizer"],
            lr=self.settings.lr if p["lr"] is None else p["lr"],
            weight_decay=self.settings.weight_decay if p["weight_decay"] is None else p["weight_decay"],
            momentum=p["momentum"],
            total_steps=int(self.trainer.estimated_stepping_batches),
            factors=factors,
            power=p["poly_power"],
            refresh=self.settings.refresh if p["poly_refresh"] is None else p["poly_refresh"],
        )
