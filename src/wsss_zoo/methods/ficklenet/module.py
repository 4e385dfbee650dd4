"""FickleNet: a classifier that sees random parts of its windows, and the maps of many such looks."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.cam.losses import multilabel_soft_margin
from wsss_zoo.methods.ficklenet.head import FickleHead
from wsss_zoo.methods.ficklenet.localization import sample_maps
from wsss_zoo.methods.ficklenet.network import FickleNetwork
from wsss_zoo.methods.optimization import halving_factor, optimizers_from_hparams, training_steps
from wsss_zoo.methods.validation import ClassifierValidation
from wsss_zoo.normalization import Normalization


class FickleNet(ClassifierValidation):
    """Lee, Kim, Lee, Lee & Yoon, "FickleNet", CVPR 2019 (arXiv 1902.10421): the localization network.

    A multi-label classifier whose last convolution sees a random part of each of its windows, another one at
    every forward pass. At inference the randomness stays: N maps of an image show N different parts of its
    objects. A `predict` step writes their average (`maps`) and, with `outputs: [maps, maps_max]`, their
    maximum, from which `wsss_zoo.refine.FickleSeeds` makes the seeds of the segmentation network (DSRG).

    `localize_image` looks at the image once, at its own size; `scales` and `flip` of a predict step do not
    apply. The selections of an image follow from `inference_seed` and its pixels, so that a run that was
    stopped continues with the maps that it would have made (on one kind of device: generators differ).

    There is no official code. Not stated in the paper and chosen here: kept units are rescaled, maps are
    divided by their maximum before they are compared with the threshold, pools have 3x3 windows (321 pixels
    must become 41), the expected scores are validated and not those of one selection.

    Args:
        num_classes: foreground classes C.
        backbone: see `wsss_zoo.backbones.create_backbone`; its deepest map is classified.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class.
        kernel: side of the windows in cells, odd.
        p: probability that a unit is dropped, in [0, 1); 0 is the deterministic classifier.
        selection: `centre_preserving` (FickleNet), or `general` for ordinary dropout; see `FickleHead`.
        share_channels: one selection for all channels of a cell.
        rescale: kept units are divided by `1 - p`.
        n_maps: N, maps of an image at inference.
        map_size: `(h, w)` to which every map is resized before it is merged; that of the grid of the seeds
            makes "any of N maps" exact there. None: the size of the backbone's map.
        threshold: of maps, between a class and nothing known; also the background score beside the average
            map where a mask is asked for without seeds.
        inference_seed: of the selections at inference.
        optimizer: `adam` as published, `adamw` for modern backbones, `sgd`.
        lr: base learning rate. On a pretrained VGG16 that does not get going, 1e-4 with `head_lr_factor: 10`.
        weight_decay: of weights.
        momentum: of SGD.
        head_lr_factor: learning rate of the classifier over that of the backbone.
        lr_halved_every: epochs after which the learning rate is halved.

    Raises:
        WsssZooError: unknown backbone, backbone argument or (when training starts) optimizer, or a value out
            of range.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "localizer"
    #: What a `predict` step can write; the first where it does not say.
    outputs = ("maps", "maps_max")

    def __init__(
        self,
        num_classes: int = 20,
        backbone: str = "vgg16_conv5",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        kernel: int = 9,
        p: float = 0.9,
        selection: Literal["centre_preserving", "general"] = "centre_preserving",
        share_channels: bool = True,
        rescale: bool = True,
        n_maps: int = 200,
        map_size: tuple[int, int] | None = None,
        threshold: float = 0.35,
        inference_seed: int = 0,
        optimizer: Literal["sgd", "adam", "adamw"] = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        head_lr_factor: float = 1.0,
        lr_halved_every: float = 10,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if n_maps < 1 or inference_seed < 0 or not 0 <= threshold <= 1 or not lr_halved_every > 0:
            raise WsssZooError(
                "FickleNet: n_maps is at least 1, inference_seed at least 0, threshold in [0, 1] and "
                f"lr_halved_every above 0, got {n_maps}, {inference_seed}, {threshold} and {lr_halved_every}"
            )
        if map_size is not None and (len(map_size) != 2 or min(map_size) < 1):
            raise WsssZooError(f"FickleNet: map_size is [rows, columns], got {map_size!r}")
        self.map_size = None if map_size is None else (map_size[0], map_size[1])
        features = create_backbone(backbone, backbone_weights, **(backbone_args or {}))
        head = FickleHead(
            features.out_channels, num_classes, kernel, p, share_channels, rescale, selection=selection
        )
        self.network = FickleNetwork(features, head)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(
        self, images: Tensor, generator: torch.Generator | None = None, stochastic: bool = True
    ) -> Tensor:
        """Logits `(B, C)` of a selection of each image, or (`stochastic=False`) their expectation."""
        return self.network(images, generator, stochastic)

    def localize(self, images: Tensor, labels: Tensor) -> Tensor:
        """Average maps.

        Args:
            images: `(B, 3, H, W)`.
            labels: `(B, C)`; maps of classes with 0 are zero.

        Returns:
            `(B, C, H, W)` in [0, 1].
        """
        pairs = zip(images, labels, strict=True)
        return torch.stack([self.localize_image(image[None], present)[1] for image, present in pairs])

    def localize_image(self, image: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Average maps of an image.

        Args:
            image: `(1, 3, H, W)`, normalised.
            labels: `(C,)`, 0 and 1; None: the classes whose expected score is above 0.5.

        Returns:
            The classes `(C,)`, 0 and 1, and their maps `(C, H, W)` in [0, 1], zero for others.
        """
        labels, maps = self.localize_samples(image, labels)
        enlarged = F.interpolate(maps["maps"][None], image.shape[2:], mode="bilinear", align_corners=False)
        return labels, enlarged[0]

    @torch.no_grad()
    def localize_samples(
        self, image: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Average and maximum of the N maps of an image, see `localization.SampledMaps`.

        Args:
            image: `(1, 3, H, W)`, normalised.
            labels: `(C,)`, 0 and 1; None: the classes whose expected score is above 0.5.

        Returns:
            The classes `(C,)`, 0 and 1; `maps` and `maps_max`, `(C, h, w)` in [0, 1], zero for other classes.
        """
        settings = self.hparams
        # the image is copied to host memory before anything else has touched it: the same on every device
        seed = zlib.crc32(image.float().cpu().contiguous().numpy().tobytes(), settings["inference_seed"])
        generator = torch.Generator(image.device).manual_seed(seed)
        features = self.network.features(image)
        if labels is None:
            labels = (self.network.head(features, stochastic=False)[0].sigmoid() > 0.5).float()
        classes = torch.nonzero(labels > 0).flatten().to(features.device)
        sampled = sample_maps(
            self.network.head, features, classes, settings["n_maps"], generator, self.map_size
        )
        planes = {"maps": sampled.mean, "maps_max": sampled.maximum}
        return labels, {kind: _dense(maps, classes, len(labels)) for kind, maps in planes.items()}

    def background(self, maps: Tensor) -> Tensor:
        """Background score `(H, W)` beside average maps `(C, H, W)`: the threshold everywhere."""
        return maps.new_full(maps.shape[1:], self.hparams["threshold"])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Sigmoid cross entropy of one selection an image."""
        loss = multilabel_soft_margin(self(batch["image"]), batch["labels"])
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_logits(self, images: Tensor) -> Tensor:
        """Expected logits `(B, C)`, not those of one selection."""
        logits: Tensor = self(images, stochastic=False)
        return logits

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Multi-label soft margin loss."""
        return multilabel_soft_margin(logits, labels)

    def configure_optimizers(self) -> Any:
        """Four parameter groups; the learning rate is halved every few epochs."""
        training_steps(self)  # has the trainer count its batches, and refuses a training without an end
        epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        schedule = partial(halving_factor, every=self.hparams["lr_halved_every"] * epoch)
        return optimizers_from_hparams(self, schedule, caffe_biases=False)


def _dense(maps: Tensor, classes: Tensor, count: int) -> Tensor:
    """Maps `(K, h, w)` of some classes among those of all, which are zero."""
    dense = maps.new_zeros(count, *maps.shape[1:])
    dense[classes] = maps
    return dense
