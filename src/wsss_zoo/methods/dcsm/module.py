"""DCSM: distinct class-specific saliency maps (Shimoda & Yanai, ECCV 2016)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.dcsm.canvas import Canvas
from wsss_zoo.methods.dcsm.losses import multilabel_cross_entropy
from wsss_zoo.methods.dcsm.maps import background, finish
from wsss_zoo.methods.dcsm.network import DCSMNetwork
from wsss_zoo.methods.dcsm.saliency import SaliencySettings, class_evidence
from wsss_zoo.methods.optimization import optimizers_from_hparams, training_steps
from wsss_zoo.methods.validation import ClassifierValidation
from wsss_zoo.normalization import Normalization

#: Canvas side, its sizes and the least number of compared classes in the two releases.
_CANVAS = {"reference": 500, "caffe": 512}
_SCALES = {"reference": (0.8, 1.0, 1.2), "caffe": (1.0,)}
_COMPARED = {"reference": 4, "caffe": 3}


class DCSM(ClassifierValidation):
    """Shimoda & Yanai, "Distinct Class-Specific Saliency Maps for Weakly Supervised Segmentation", ECCV 2016.

    A classifier is trained on image-level labels. At inference derivatives of the scores of the best classes
    are taken at several layers and scales by guided back-propagation; what another class's derivatives have,
    too, is subtracted. Defaults are those of the MatConvNet release, with which the published numbers were
    made; `variant="caffe"` is the Caffe release.

    It serves for two things. *Test-time segmentation*: a `predict` step with `image_labels: false` finds the
    classes itself, and a `refine` step with `PseudoLabels(background="power", value=1, crf="dcsm")` makes the
    masks; background is `1 - max over classes`. (Scores are not divided by their sum over labels before the
    CRF, whose order is published nowhere: that would move the energies of a pixel alike, which the CRF does
    not see, but for scores below 1e-5, where they are clipped.) *Seeds for
    DeepLab*: the same with image-level labels, see the recipe voc2012/dcsm.

    Inference looks at a canvas of its own at scales of its own (`localize_image`); `scales` and `flip` of a
    predict step do not apply.

    Differences from the original: settings of training and CRF are not published; `lr`, `weight_decay`,
    `momentum` and the steps of the learning rate are a guess that suits the 60,000 steps the names of its
    files tell of. With image-level labels (not in the original) the labelled classes are the targets at
    every scale. A class that is compared with no other keeps its derivatives unsubtracted.

    Args:
        num_classes: foreground classes C.
        backbone: see `wsss_zoo.backbones.create_backbone`; guided back-propagation wants ReLU or ReLU6.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class.
        variant: release that is followed from derivatives to maps, and in the defaults of the next three.
        canvas: side in pixels of the black square in whose middle an image is looked at; a larger image is
            shrunk to it. None: 500, caffe 512.
        scales: sizes of the canvas, over its side. None: 0.8, 1 and 1.2, caffe 1.
        compared_classes: least number of classes that are compared, those of the image included; 0: nothing
            is subtracted. None: 4, caffe 3.
        layers: maps of the backbone at which derivatives are taken, and `image`, the input itself; None: all
            but the one that is classified, for `vgg16_fcn` the inputs of conv3_1 to conv5_3 as published.
        guided: guided back-propagation; otherwise plain derivatives (Simonyan et al., 2014).
        alpha: factor in the tanh.
        threshold: a class whose probability is above is in the image.
        fallback: without image-level labels, when no class is above: `best`, take the best class; or
            `background`, take none.
        train_size: range of the longer side of training images in pixels: every batch is resized to a random
            size of it, as published. The data module gives whole images, padded to squares (`resize_long` and
            `crop_size` of 500: VOC images keep their size). None: images are trained on as they come.
        optimizer: `sgd`, `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights.
        momentum: of SGD.
        head_lr_factor: learning rate of the classifier over that of the backbone.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        lr_drop: factor of the learning rate in the last part of the training.
        lr_drop_at: where that part begins, as a fraction of the training.

    Raises:
        WsssZooError: unknown backbone, argument, layer or (when training starts) optimizer, or a value out of
            range.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "localizer"

    def __init__(
        self,
        num_classes: int = 20,
        backbone: str = "vgg16_fcn",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        variant: Literal["reference", "caffe"] = "reference",
        canvas: int | None = None,
        scales: tuple[float, ...] | None = None,
        compared_classes: int | None = None,
        layers: tuple[str, ...] | None = None,
        guided: bool = True,
        alpha: float = 3.0,
        threshold: float = 0.5,
        fallback: Literal["best", "background"] = "best",
        train_size: tuple[int, int] | None = (300, 700),
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 1e-4,
        weight_decay: float = 5e-4,
        momentum: float = 0.9,
        head_lr_factor: float = 10.0,
        caffe_biases: bool = False,
        lr_drop: float = 0.1,
        lr_drop_at: float = 2 / 3,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if compared_classes is None:
            compared_classes = _COMPARED.get(variant, 4)
        self.settings = SaliencySettings(
            variant,
            None if layers is None else tuple(layers),
            guided,
            alpha,
            compared_classes,
            threshold,
            fallback,
        )
        self.canvas = _CANVAS[variant] if canvas is None else canvas
        self.scales = _SCALES[variant] if scales is None else tuple(scales)
        if self.canvas < 1 or not self.scales or min(self.scales) <= 0:
            raise WsssZooError(
                "DCSM: canvas is a number of pixels and scales are factors of it above 0, at least one, got "
                f"{self.canvas!r} and {self.scales!r}"
            )
        if train_size is not None and not 1 <= train_size[0] <= train_size[1]:
            raise WsssZooError(f"DCSM: train_size is [low, high] in pixels, got {train_size!r}")
        features = create_backbone(backbone, backbone_weights, **(backbone_args or {}))
        self.network = DCSMNetwork(features, num_classes)
        if layers is not None:
            self.network.require_layers(layers)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, C)`: the maxima of the score map over positions."""
        return self.network(images).amax((2, 3))

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Localization maps at one scale, without a canvas.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`; maps of classes with 0 are zero.

        Returns:
            `(B, C, H, W)` in [0, 1].
        """
        size = (images.shape[2], images.shape[3])
        maps = []
        for image, present in zip(images, labels, strict=True):
            _, evidence = class_evidence(self.network, [image[None]], size, self.settings, present)
            maps.append(self.merge_maps(evidence))
        return torch.stack(maps)

    def merge_maps(self, maps: Tensor) -> Tensor:
        """Evidence `(C, H, W)` summed over layers and scales -> maps in [0, 1]."""
        return finish(maps, self.settings.variant, self.settings.alpha)

    def localize_image(self, image: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Localize the classes of an image as published: on a canvas, at several scales.

        Args:
            image: `(1, 3, H, W)`, normalised, at its original size.
            labels: `(C,)`, 0 and 1; None: classes are found by their scores (see `choose_candidates`).

        Returns:
            The classes that were looked for `(C,)`, 0 and 1, and their maps `(C, H, W)` in [0, 1], zero for
            all others.

        Raises:
            WsssZooError: see `DCSMNetwork.trace` and `class_derivatives`.
        """
        canvas = Canvas.around(image, self.canvas, self.normalization)
        pyramid = [canvas.at(scale) for scale in self.scales]
        side = (self.canvas, self.canvas)
        found, evidence = class_evidence(self.network, pyramid, side, self.settings, labels)
        return found, canvas.restore(self.merge_maps(canvas.crop(evidence)))

    def background(self, maps: Tensor) -> Tensor:
        """Background score `(H, W)` of maps `(C, H, W)`: `1 - max over classes`."""
        return background(maps)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Sigmoid cross entropy at a random size."""
        loss = multilabel_cross_entropy(self(self._at_random_size(batch["image"])), batch["labels"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sigmoid cross entropy, summed over classes."""
        return multilabel_cross_entropy(logits, labels)

    def configure_optimizers(self) -> Any:
        """Four parameter groups, and one step down of the learning rate."""
        settings = self.hparams
        drop_at = settings["lr_drop_at"] * training_steps(self)
        return optimizers_from_hparams(self, partial(_step_factor, drop_at=drop_at, drop=settings["lr_drop"]))

    def _at_random_size(self, images: Tensor) -> Tensor:
        """The batch, its longer side a random number of pixels (drawn by torch's seeded generator)."""
        if self.hparams["train_size"] is None:
            return images
        low, high = self.hparams["train_size"]
        longer = int(torch.randint(low, high + 1, ()))
        size = [max(1, round(length * longer / max(images.shape[2:]))) for length in images.shape[2:]]
        return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _step_factor(step: int, drop_at: float, drop: float) -> float:
    return drop if step >= drop_at else 1.0
