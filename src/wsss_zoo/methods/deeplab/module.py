"""DeepLab as a LightningModule: one class, the variants that the field retrains on pseudo labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.deeplab.losses import multi_scale_loss, segmentation_loss
from wsss_zoo.methods.deeplab.variants import VARIANTS, build_network
from wsss_zoo.methods.optimization import configure_optimizers, cosine_factor, poly_factor, training_steps
from wsss_zoo.methods.validation import SegmentationValidation
from wsss_zoo.metrics import MeanIoU
from wsss_zoo.normalization import Normalization


class DeepLab(SegmentationValidation):
    """Segmentation network, trained with cross entropy on masks.

    What a variant is trained with stands, with its source, in `methods/deeplab/variants.py`; arguments that
    are None take it from there.

    Differences from the originals: `backbone_weights="imagenet"` is torchvision's ResNet-101 for v2, where
    published WSSS numbers often start from COCO, which is worth several points; and for LargeFOV it is
    subsampled from torchvision's VGG16 instead of the authors' `vgg16_20M`. v3 and v3+ have no multi-grid.

    Args:
        variant: `largefov` (VGG16), `vgg16_aspp` (VGG16 with the four branches of DSRG), `v2` (ResNet-101,
            summed ASPP, three scales inside), `resnet38_seam`, `resnet38_psa`, `aspp` (DeepLab v3 on any
            backbone), `v3plus` (with decoder).
        num_classes: foreground classes C; the network has C + 1 outputs.
        backbone: see `create_backbone`; None is the variant's own.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class.
        aspp_channels: `aspp` and `v3plus`: channels of the branches.
        aspp_rates: dilations of the branches; None is 6, 12, 18, 24 for `v2`, 6, 12, 18 for `aspp` and
            `v3plus` (doubled for backbones of stride 8).
        optimizer: `sgd`, or `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights.
        momentum: of SGD.
        head_lr_factor: learning rate of the head over that of the backbone.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        schedule: `poly`, or `cosine` (SSDD's: it would reach 0 a fifth after the end of the training).
        poly_power: exponent of the poly schedule.
        poly_refresh: steps between changes of the poly schedule.

    Raises:
        WsssZooError: unknown variant, backbone or argument, or they do not go together.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "segmenter"

    def __init__(
        self,
        variant: Literal[
            "largefov", "vgg16_aspp", "v2", "resnet38_seam", "resnet38_psa", "aspp", "v3plus"
        ] = "v2",
        num_classes: int = 20,
        backbone: str | None = None,
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        aspp_channels: int = 256,
        aspp_rates: tuple[int, ...] | None = None,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float | None = None,
        weight_decay: float | None = None,
        momentum: float | None = None,
        head_lr_factor: float = 10.0,
        caffe_biases: bool | None = None,
        schedule: Literal["poly", "cosine"] | None = None,
        poly_power: float = 0.9,
        poly_refresh: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if variant not in VARIANTS:
            raise WsssZooError(f"DeepLab has no variant {variant!r}; {suggest(variant, VARIANTS)}")
        self.variant = VARIANTS[variant]
        name = backbone or self.variant.backbone
        own = self.variant.backbone_args if name == self.variant.backbone else {}
        features = create_backbone(name, backbone_weights, **{**own, **(backbone_args or {})})
        self.network = build_network(variant, features, num_classes + 1, aspp_channels, aspp_rates)
        self.val_iou = MeanIoU(num_classes + 1)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    @property
    def align_corners(self) -> bool:
        """How logits of this variant are enlarged, here and in multi-scale inference."""
        return self.variant.align_corners

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        """Logits `(B, C + 1, h, w)` at feature size; the list of all scales for `v2` in training."""
        return self.network(images)

    def segment(self, images: Tensor) -> Tensor:
        """Probabilities `(B, C + 1, H, W)` at the size of the images, one scale."""
        logits = self(images)
        if isinstance(logits, list):  # v2 in training mode: the last one is the maximum over scales
            logits = logits[-1]
        size = images.shape[2:]
        return F.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners).softmax(1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Cross entropy; pixels with 255 are ignored."""
        if "mask" not in batch:
            raise WsssZooError(
                "DeepLab trains on masks and the training data has none: set `masks` of the stage's fit "
                'block (a stage that makes pseudo labels, or "ground_truth")'
            )
        outputs, mask = self(batch["image"]), batch["mask"]
        if isinstance(outputs, list):
            loss = multi_scale_loss(outputs, mask)
        else:
            if self.variant.upsample > 1:
                outputs = F.interpolate(
                    outputs,
                    scale_factor=self.variant.upsample,
                    mode="bilinear",
                    align_corners=self.align_corners,
                )
            loss = segmentation_loss(outputs, mask, self.variant.loss_at, self.align_corners)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Four parameter groups and the variant's schedule."""

        def setting(name: str) -> Any:
            given = self.hparams[name]
            return getattr(self.variant, name) if given is None else given

        return configure_optimizers(
            self.network,
            self.network.new_modules(),
            optimizer=self.hparams["optimizer"],
            lr=setting("lr"),
            weight_decay=setting("weight_decay"),
            schedule=self._schedule(setting("schedule"), setting("poly_refresh")),
            momentum=setting("momentum"),
            head_lr_factor=self.hparams["head_lr_factor"],
            caffe_biases=setting("caffe_biases"),
        )

    def _schedule(self, name: str, refresh: int) -> Callable[[int], float]:
        steps = training_steps(self)
        if name == "cosine":
            epochs = self.trainer.max_epochs or 0
            # SSDD cuts 1.2 times its epochs to whole ones: 49 for 41
            ramp = int(1.2 * epochs) / epochs if epochs > 0 else 1.2
            return partial(cosine_factor, total=round(ramp * steps))
        if name != "poly":
            raise WsssZooError(f"there is no schedule {name!r}; {suggest(name, ('poly', 'cosine'))}")
        return partial(
            poly_factor,
            total=steps + self.variant.extra_steps,
            power=self.hparams["poly_power"],
            refresh=refresh,
        )
