"""The static stage of SSDD as a LightningModule: learns differences of two masks, integrates the masks."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.artifacts.differences import Differences
from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import DataError
from wsss_zoo.methods.deeplab.losses import segmentation_loss
from wsss_zoo.methods.ssdd.inference import squash
from wsss_zoo.methods.ssdd.integration import integrate, vanished_classes
from wsss_zoo.methods.ssdd.losses import static_difference_loss
from wsss_zoo.methods.ssdd.masks import one_hot, shrink_mask
from wsss_zoo.methods.ssdd.network import SSDDNetwork
from wsss_zoo.methods.ssdd.settings import backbone_arguments, require_settings
from wsss_zoo.methods.ssdd.training import DifferenceTraining, training_input
from wsss_zoo.metrics import MeanIoU


class SSDDStatic(DifferenceTraining):
    """Shimoda & Yanai, "Self-Supervised Difference Detection" (SSDD), ICCV 2019: the static stage.

    A mapping turns one mask of an image into another, such as a CRF does with the result of a random walk.
    Where it does so is learnt from the image and one of the two masks: what can be predicted is trusted, and
    of the two masks the one with the less surprising differences is taken, pixel by pixel. Any two masks of
    the same images will do (`fit.inputs: {before: <stage>, after: <stage>}`).

    The segmentation network learns the first mask, and lends its features to the detector.

    Differences from the original: masks, where the release has probabilities, are resized as one plane a
    label; the result has the size of the image (predicted differences are enlarged), where the release
    integrates on a grid of 112 x 112; images to be refined are neither mirrored nor jittered, which the
    release does without telling its next stage; pixels that have no label in a mask count nowhere.

    Args:
        num_classes: foreground classes C.
        backbone: see `wsss_zoo.backbones.create_backbone`.
        backbone_weights: `imagenet`, a file (the release starts from PSA's classifier), or None for random
            weights.
        backbone_args: arguments of the backbone's class.
        shallow: name of the shallow level that the detector reads; None: the first of stride 2 (or else 4).
        head_channels: inside the segmentation head.
        head_dilation: of the segmentation head; images must be larger than this times the backbone's stride.
        detector_channels: inside the detector.
        test_size: side of the square to which an image is squashed to be refined; None: as it is.
        bias: of `integrate`, when refining; above 0 for more of the favoured mask.
        bg_bias: of `integrate`, when refining; above 0 for more background.
        prefer: the mask that `bias` favours: `after` as released, `before` as printed on the poster.
        optimizer: `sgd` as published, `adamw` for modern backbones.
        lr: base learning rate, that of the backbone.
        weight_decay: of weights, biases included.
        momentum: of SGD. The release states 0.9, but makes a new optimiser at every step, so that it never
            takes effect; with 0.9, divide `lr` by 10.
        head_lr_factor: learning rate of head and detector over that of the backbone.
        ramp_epochs: epochs after which the cosine schedule would be at 0; None: 1.2 times the epochs of the
            training, rounded down. The release plans 16 epochs (19) and uses the weights of the tenth.

    Raises:
        WsssZooError: unknown backbone, argument or level, or a value out of range.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "refiner"
    outputs = ("masks", "differences")

    def __init__(
        self,
        num_classes: int = 20,
        backbone: str = "resnet38d",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        shallow: str | None = None,
        head_channels: int = 512,
        head_dilation: int = 12,
        detector_channels: int = 256,
        test_size: int | None = 448,
        bias: float = 0.1,
        bg_bias: float = 0.1,
        prefer: Literal["after", "before"] = "after",
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 1e-3,
        weight_decay: float = 2e-4,
        momentum: float = 0.0,
        head_lr_factor: float = 10.0,
        ramp_epochs: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        require_settings(self.hparams)
        features = create_backbone(backbone, backbone_weights, **backbone_arguments(backbone, backbone_args))
        self.network = SSDDNetwork(
            features,
            num_classes,
            head_channels,
            head_dilation,
            sub_head=False,
            detectors=1,
            detector_channels=detector_channels,
            shallow=shallow,
        )
        self.val_iou = MeanIoU(num_classes + 1)

    def losses(self, images: Tensor, labels: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of the segmentation network and loss of the detector.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`.
            before: int64 `(B, H, W)`, 0 background, 1..C, 255 for no label.
            after: as `before`.
        """
        seen = self.network.outputs(images)
        size = seen.shallow.shape[2:]
        before, after = (shrink_mask(mask, size) for mask in (before, after))
        detector = self.network.detector(0)
        features = detector.features(seen.features[0], seen.shallow)
        difference = static_difference_loss(
            detector(features, before),
            detector(features, after),
            before,
            after,
            vanished_classes(before, after, labels, self.hparams["prefer"]),
        )
        return segmentation_loss(seen.logits[0], before), difference

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """A step of both optimisers, from the samples' `before` and `after` `(B, H, W)`."""
        masks = [training_input(batch, role, "SSDDStatic") for role in ("before", "after")]
        self.descend(*self.losses(batch["image"], batch["labels"], *masks))

    def differences(self, image: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Predicted differences from each of two masks.

        Args:
            image: `(1, 3, H, W)`, normalised.
            before: int64 `(1, H, W)`.
            after: as `before`.

        Returns:
            Logits `(2, h, w)` on the grid of stride 4 of the squashed image: from `before`, from `after`.
        """
        seen = self.network.outputs(squash(image, self.hparams["test_size"]))
        detector = self.network.detector(0)
        features = detector.features(seen.features[0], seen.shallow)
        masks = [shrink_mask(mask, seen.shallow.shape[2:]) for mask in (before, after)]
        return torch.cat([detector(features, mask)[0] for mask in masks])

    def refine(self, image: Tensor, labels: Tensor, *, before: Tensor, after: Tensor) -> Tensor:
        """Take at each pixel the mask that is trusted more.

        Args:
            image: `(1, 3, H, W)`, normalised, at its original size.
            labels: `(C,)`.
            before: integers `(H, W)`, 0 background, 1..C, 255 for no label.
            after: as `before`.

        Returns:
            `(C + 1, H, W)`, 1 for the label of a pixel; all 0 where the mask has no label.

        Raises:
            DataError: the sizes do not go together.
        """
        mask, _ = self._refined(image, labels, before, after)
        return one_hot(mask, self.hparams["num_classes"] + 1)[0]

    def refine_artifacts(
        self, image: Tensor, labels: Tensor, *, before: Tensor, after: Tensor
    ) -> dict[str, Any]:
        """As `refine`, and what it was decided by.

        Returns:
            `masks`: uint8 `(H, W)`, 255 for no label; `differences`: `Differences`.

        Raises:
            DataError: the sizes do not go together.
        """
        mask, logits = self._refined(image, labels, before, after)
        height, width = before.shape
        first, second = logits.float().cpu().numpy()
        return {
            "masks": mask[0].cpu().numpy().astype(np.uint8),
            "differences": Differences.from_logits(first, second, (height, width)),
        }

    def _refined(self, image: Tensor, labels: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """The mask `(1, H, W)` and the logits `(2, h, w)`."""
        size = image.shape[2:]
        if len(image) != 1 or not before.shape == after.shape == size:
            raise DataError(
                f"SSDDStatic refines an image (1, 3, H, W) with two masks (H, W) of this size, got an image "
                f"{tuple(image.shape)} and masks {tuple(before.shape)}, {tuple(after.shape)}"
            )
        first, second = before[None].long(), after[None].long()
        logits = self.differences(image, first, second).float()
        enlarged = F.interpolate(logits[None], tuple(size), mode="bilinear", align_corners=False)
        mask = integrate(
            enlarged[:, 0],
            enlarged[:, 1],
            first,
            second,
            vanished_classes(first, second, labels[None], self.hparams["prefer"]),
            self.hparams["bias"],
            self.hparams["bg_bias"],
            self.hparams["prefer"],
        )
        return mask, logits
