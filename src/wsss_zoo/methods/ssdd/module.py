"""The dynamic stage of SSDD as a LightningModule: a segmentation network that refines its training masks."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.ssdd.crf import crf_images, online_crf
from wsss_zoo.methods.ssdd.inference import final_probabilities, squash, summed_probabilities
from wsss_zoo.methods.ssdd.integration import integrate, vanished_classes
from wsss_zoo.methods.ssdd.losses import (
    dynamic_difference_loss,
    dynamic_segmentation_loss,
    static_difference_loss,
)
from wsss_zoo.methods.ssdd.masks import restricted_mask, shrink_mask, with_background
from wsss_zoo.methods.ssdd.network import SSDDNetwork
from wsss_zoo.methods.ssdd.refinement import dynamic_refinement
from wsss_zoo.methods.ssdd.settings import backbone_arguments, require_settings
from wsss_zoo.methods.ssdd.training import DifferenceTraining, training_input
from wsss_zoo.metrics import MeanIoU
from wsss_zoo.refine.dense_crf import DenseCRF


class SSDD(DifferenceTraining):
    """Shimoda & Yanai, "Self-Supervised Difference Detection" (SSDD), ICCV 2019: the dynamic stage.

    In every step a first detector integrates the network's prediction with its dense CRF, and a second one
    the result with the seeds, which two masks and the static stage's differences give (`fit.inputs: {before:
    <stage>, after: <stage>, differences: <static stage>}`). The main head learns the outcome; the sub head
    learns the seeds and the outcome, half each, and tells the second detector which of both can be learnt.
    At inference, the main head alone.

    Without `seed_module` the first detector is the only one. Nothing then chooses between seeds and result,
    so there is no sub head either: the main head learns what the sub head otherwise does, both with weights
    `alpha` and `1 - alpha`. The publication names this variant and does not say how it was trained; this is
    our reading of it.

    Inference has scales and mirrors of its own (`scales`, `flip`), so `predict.scales` stays [1.0].

    Differences from the original: predicted differences are cropped and mirrored with the masks and read in
    the right order, where the release does neither (`release_compat`); masks are resized as one plane a
    label, where the release has probabilities; colours of the online CRF are resized without Pillow; pixels
    without label (255) count nowhere.

    Args:
        num_classes: foreground classes C.
        backbone: see `wsss_zoo.backbones.create_backbone`.
        backbone_weights: `imagenet`, a file (the release starts from PSA's classifier, not from the static
            stage), or None for random weights.
        backbone_args: arguments of the backbone's class.
        shallow: name of the shallow level that the detectors read; None: the first of stride 2 (or else 4).
        head_channels: inside the segmentation heads.
        head_dilation: of the segmentation heads; images must be larger than this times the backbone's stride.
        detector_channels: inside the detectors.
        seed_module: with the second detector and the sub head, see above.
        training_parts: False leaves out what only training needs: sub head and detectors.
        alpha: share of the seeds in what the sub head learns.
        bias: of `integrate`, for both detectors; above 0 for more of the favoured mask.
        bg_bias: of `integrate`, for both detectors; above 0 for more background.
        seed_bias: as `bias`, for the seeds.
        seed_bg_bias: as `bg_bias`, for the seeds.
        prefer: the mask that biases favour: `after` as released, `before` as printed on the poster.
        release_compat: for comparison, read differences as the release does: those of the two masks swapped,
            and neither cropped nor mirrored with the image.
        crf: setting of the online CRF, see `wsss_zoo.refine.CRF_PARAMETERS`.
        crf_args: `backend`, and fields of `CrfParameters` that replace the setting's.
        test_size: side of the square to which images are squashed at inference; None: as they are.
        scales: factors of that size, at inference.
        flip: add mirrored images, at inference.
        optimizer: `sgd` as published, `adamw` for modern backbones.
        lr: base learning rate, that of the backbone.
        weight_decay: of weights, biases included.
        momentum: of SGD. The release states 0.9, but makes a new optimiser at every step, so that it never
            takes effect; with 0.9, divide `lr` by 10.
        head_lr_factor: learning rate of heads and detectors over that of the backbone.
        ramp_epochs: epochs after which the cosine schedule would be at 0; None: 1.2 times the epochs of the
            training, rounded down. The release plans 41 epochs (49).

    Raises:
        WsssZooError: unknown backbone, argument or level, or a value out of range.
        RecipeError: unknown `crf` or field of it.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "segmenter"

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
        seed_module: bool = True,
        training_parts: bool = True,
        alpha: float = 0.5,
        bias: float = 0.4,
        bg_bias: float = 0.0,
        seed_bias: float = 0.1,
        seed_bg_bias: float = 0.1,
        prefer: Literal["after", "before"] = "after",
        release_compat: bool = False,
        crf: str = "ssdd_online",
        crf_args: dict[str, Any] | None = None,
        test_size: int | None = 448,
        scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5),
        flip: bool = True,
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
        if not 0 <= alpha <= 1:
            raise WsssZooError(f"SSDD: alpha, the share of the seeds, lies in [0, 1], got {alpha!r}")
        if len(scales) == 0 or min(scales) <= 0:
            raise WsssZooError(f"SSDD: scales are one or more factors above 0, got {scales!r}")
        self.crf = DenseCRF(crf, **(crf_args or {}))
        features = create_backbone(backbone, backbone_weights, **backbone_arguments(backbone, backbone_args))
        self.network = SSDDNetwork(
            features,
            num_classes,
            head_channels,
            head_dilation,
            sub_head=training_parts and seed_module,
            detectors=(1 + seed_module) * training_parts,
            detector_channels=detector_channels,
            shallow=shallow,
        )
        self.val_iou = MeanIoU(num_classes + 1)

    @property
    def joint_differences(self) -> bool:
        """Whether samples shall hold differences that are augmented with their image."""
        return not self.hparams["release_compat"]

    def segment_image(self, image: Tensor) -> Tensor:
        """Probabilities at the size of an image, over all scales and mirrors.

        Args:
            image: `(1, 3, H, W)`, normalised.

        Returns:
            `(C + 1, H, W)`, sums to 1.
        """
        settings = self.hparams
        squashed = squash(image, settings["test_size"])
        summed = summed_probabilities(self.segment, squashed, settings["scales"], settings["flip"])
        return final_probabilities(summed, image.shape[2:])

    def seeds(self, before: Tensor, after: Tensor, differences: Tensor, labels: Tensor) -> Tensor:
        """The mask that this stage begins with: the static integration of two masks.

        Args:
            before: integers `(B, h, w)`.
            after: as `before`.
            differences: logits `(B, 2, h, w)`, from `before` and from `after`.
            labels: `(B, C)`.

        Returns:
            `(B, h, w)`.
        """
        settings = self.hparams
        if settings["release_compat"]:
            differences = differences.flip(1)
        return integrate(
            differences[:, 0],
            differences[:, 1],
            before,
            after,
            vanished_classes(before, after, labels, settings["prefer"]),
            settings["seed_bias"],
            settings["seed_bg_bias"],
            settings["prefer"],
        )

    def losses(
        self, images: Tensor, labels: Tensor, before: Tensor, after: Tensor, differences: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Loss of the segmentation network and loss of the detectors.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`.
            before: int64 `(B, H, W)`, 0 background, 1..C, 255 for no label.
            after: as `before`.
            differences: logits `(B, 2, H, W)`, from `before` and from `after`.
        """
        settings = self.hparams
        seen = self.network.outputs(images)
        size = seen.shallow.shape[2:]
        before, after = (shrink_mask(mask, size) for mask in (before, after))
        small = F.interpolate(differences, size, mode="bilinear", align_corners=False)
        seeds = self.seeds(before, after, small, labels)
        present = with_background(labels)
        with torch.no_grad():
            colours = crf_images(images, size, self.normalization)
            crf = online_crf(colours, seen.logits[0], present, self.crf).argmax(1)
            predictions = [restricted_mask(logits, present) for logits in seen.logits]
        steps = dynamic_refinement(
            [self.network.detector(index) for index in range(len(self.network.detectors))],
            seen,
            predictions[0],
            crf,
            seeds,
            labels,
            settings["bias"],
            settings["bg_bias"],
            settings["prefer"],
        )
        refined = steps[-1].mask
        sub = seen.logits[1] if settings["seed_module"] else None
        segmentation = dynamic_segmentation_loss(seen.logits[0], sub, seeds, refined, settings["alpha"])
        first = (steps[0].d_before, steps[0].d_after)
        if not settings["seed_module"]:
            return segmentation, static_difference_loss(*first, predictions[0], crf, steps[0].flags)
        second = (steps[1].d_before, steps[1].d_after)
        return segmentation, dynamic_difference_loss(
            first, predictions[0], crf, steps[0].flags, second, predictions[1], seeds, refined
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """A step of both optimisers, from the samples' `before`, `after` and `differences`."""
        inputs = [training_input(batch, role, "SSDD") for role in ("before", "after", "differences")]
        self.descend(*self.losses(batch["image"], batch["labels"], *inputs))
