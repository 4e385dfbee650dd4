"""SC-CAM: class activation maps by sub-category exploration (Chang et al., CVPR 2020)."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.cam.losses import multilabel_soft_margin
from wsss_zoo.methods.optimization import optimizers_from_hparams, poly_schedule, training_steps
from wsss_zoo.methods.sccam.losses import joint_losses
from wsss_zoo.methods.sccam.network import SCCAMNetwork, merge_subcategories
from wsss_zoo.methods.validation import ClassifierValidation
from wsss_zoo.normalization import Normalization


class SCCAM(ClassifierValidation):
    """A classifier that also has to tell apart the kinds inside every class, and so looks at more of them.

    One round: the images of each class are clustered by the features of the round before (in round 0: of a
    plain classifier, `CAM`), and the network is trained anew from ImageNet weights on the classes and on the
    clusters. Nothing but the labels goes from round to round.

    As published: K = 10, three rounds, crops of 224 (longer side 256 to 512, flip, colour jitter 0.3, 0.3,
    0.3, 0.1), batches of 16; a schedule laid out for 61 epochs of which rounds 1, 2 and 3 run 31, 41 and 51;
    inference at the scales 1, 0.5, 1.5, 2 with mirrors, from the head of the classes.

    Differences from the original: none in network and loss; augmentation draws other random numbers; maps
    are kept as they are, where the official script overwrites those it saves with 0 and 255.

    Args:
        num_classes: foreground classes C.
        k: sub-categories of every class, K; as many as the clustering makes. 0: no head for them (round 0).
        backbone: see `wsss_zoo.backbones.create_backbone`.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class (output_stride, ...).
        dropout: rate of the channel dropout before pooling.
        subcategory_weight: of the sub-category loss, lambda; the loss of the classes has weight 1.
        head: inference: the head that localizes. `subcategory` is for analysis: of each class the K maps over
            their common maximum, then the largest at every position.
        optimizer: `sgd` as published, `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights.
        momentum: of SGD; None is the official effective value (see `methods.optimization`).
        head_lr_factor: learning rate of both heads over that of the backbone.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        poly_power: exponent of the learning-rate schedule.
        schedule_epochs: epochs for which the schedule is laid out, when the training stops before its end;
            None is the length of the training.

    Raises:
        WsssZooError: unknown backbone, backbone argument or (when training starts) optimizer; `k` below 0;
            `head="subcategory"` without sub-categories.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "localizer"

    def __init__(
        self,
        num_classes: int = 20,
        k: int = 10,
        backbone: str = "resnet38d",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        dropout: float = 0.5,
        subcategory_weight: float = 5.0,
        head: Literal["class", "subcategory"] = "class",
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.01,
        weight_decay: float = 5e-4,
        momentum: float | None = None,
        head_lr_factor: float = 10.0,
        caffe_biases: bool = True,
        poly_power: float = 0.9,
        schedule_epochs: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if k < 0:
            raise WsssZooError(f"SCCAM: k, the sub-categories of every class, is 0 or more, got {k}")
        if head not in ("class", "subcategory"):
            raise WsssZooError(f"SCCAM: head is 'class' or 'subcategory', got {head!r}")
        if head == "subcategory" and k == 0:
            raise WsssZooError("SCCAM: head='subcategory' needs sub-categories, but k is 0")
        if schedule_epochs is not None and schedule_epochs < 1:
            raise WsssZooError(f"SCCAM: schedule_epochs is 1 or more, or null, got {schedule_epochs}")
        features = create_backbone(backbone, backbone_weights, **(backbone_args or {}))
        self.network = SCCAMNetwork(features, num_classes, k, dropout)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes `(B, C)`."""
        return self.network(images, 0).logits

    def image_features(self, images: Tensor) -> Tensor:
        """What the next round clusters: `(B, D)`, the pooled deepest map, without dropout, not normalised."""
        return self.network.image_features(images)

    def activation_maps(self, images: Tensor) -> Tensor:
        """What multi-scale inference sums: not negative, not normalised.

        Returns:
            `(B, C, h, w)`; with `head="subcategory"` `(B, C, K, h, w)`.
        """
        if self.hparams["head"] == "class":
            return self.network.forward_cam(images)
        _, maps = self.network.forward_two_cam(images)
        return maps.unflatten(1, (-1, self.hparams["k"]))

    def merge_maps(self, maps: Tensor) -> Tensor:
        """Summed maps to maps in [0, 1).

        Args:
            maps: `(..., H, W)`, each divided by its maximum over positions (+ 1e-5); with
                `head="subcategory"` `(..., K, H, W)`, merged by `merge_subcategories`.

        Returns:
            `(..., H, W)`.
        """
        if self.hparams["head"] == "subcategory":
            return merge_subcategories(maps)
        return maps / (maps.amax((-2, -1), keepdim=True) + 1e-5)

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Localization maps at one scale.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`; maps of classes with 0 are zero.

        Returns:
            `(B, C, H, W)` in [0, 1).
        """
        maps = self.activation_maps(images)
        planes = F.interpolate(
            maps.flatten(1, -3), images.shape[2:], mode="bilinear", align_corners=False
        ).unflatten(1, maps.shape[1:-2])
        return self.merge_maps(planes) * labels[:, :, None, None]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The joint loss; its terms are logged as `train/loss_class` and `train/loss_subcategory`.

        Raises:
            WsssZooError: the samples have no sub-categories, or another number of them than the network.
        """
        if self.hparams["k"] == 0:
            loss = multilabel_soft_margin(self(batch["image"]), batch["labels"])
            self.log("train/loss", loss, prog_bar=True)
            return loss
        sublabels = self._subcategory_labels(batch)
        outputs = self.network(batch["image"])
        losses = joint_losses(outputs.logits, batch["labels"], outputs.subcategory_logits, sublabels)
        loss = losses["class"] + self.hparams["subcategory_weight"] * losses["subcategory"]
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/loss_{name}": value for name, value in losses.items()})
        return loss

    def _subcategory_labels(self, batch: dict[str, Any]) -> Tensor:
        if "sublabels" not in batch:
            raise WsssZooError(
                "SCCAM learns sub-categories, but the samples have none: name the stage that clusters, "
                "fit.inputs: {subcategories: <stage>}; or train a plain classifier with k: 0"
            )
        expected = self.hparams["num_classes"] * self.hparams["k"]
        if batch["sublabels"].shape[1] != expected:
            found = batch["sublabels"].shape[1] / self.hparams["num_classes"]
            raise WsssZooError(
                f"SCCAM has k={self.hparams['k']} sub-categories of every class, the clustering made "
                f"{found:g}; give the method and the clusterer the same k"
            )
        return batch["sublabels"]

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Multi-label soft margin loss."""
        return multilabel_soft_margin(logits, labels)

    def configure_optimizers(self) -> Any:
        """Four parameter groups and the poly schedule."""
        return optimizers_from_hparams(self, poly_schedule(self, self._schedule_steps()))

    def _schedule_steps(self) -> int:
        steps, epochs = training_steps(self), self.hparams["schedule_epochs"]
        if epochs is None:
            return steps
        trained = self.trainer.max_epochs
        if trained is None or trained < 1 or self.trainer.max_steps > 0:
            raise WsssZooError(
                "SCCAM: schedule_epochs needs a training whose length is given in epochs: set "
                "trainer.max_epochs and no trainer.max_steps"
            )
        return steps * epochs // trained
