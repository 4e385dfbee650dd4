"""AffinityNet as a LightningModule: learns affinities of pixels, refines localization maps with them."""

from __future__ import annotations

from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import DataError, WsssZooError
from wsss_zoo.methods.affinitynet.losses import affinity_loss, confident_labels, pair_labels
from wsss_zoo.methods.affinitynet.network import AffinityNetwork
from wsss_zoo.methods.optimization import optimizers_from_hparams, poly_schedule
from wsss_zoo.normalization import Normalization
from wsss_zoo.refine.random_walk import RandomWalk

#: What a published network changes in its backbone.
_BACKBONE_ARGS: dict[str, dict[str, Any]] = {"vgg16": {"fc6_dilation": 4}}


class AffinityNet(L.LightningModule):
    """Ahn & Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision" (PSA), CVPR 2018.

    Learns from `AffinitySeeds` which neighbouring pixels belong together, whatever their class, and lets
    localization maps walk along what it learnt. Defaults are those of PSA's code.

    SEAM (Wang et al., CVPR 2020) uses the same network with `lr=0.01`, crops of 448, `shrink_radius=True`,
    `alpha=6`, `log_t=6`, and 4 and 24 as powers of the seeds.

    Differences from the original: none in network, loss and inference, except that the walk never forms its
    matrix (`RandomWalk`) and so rounds differently; augmentation draws other random numbers.

    Args:
        num_classes: foreground classes C of scores and maps; the network itself knows no classes.
        backbone: see `wsss_zoo.backbones.create_backbone`.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class; `vgg16` has `fc6_dilation=4` here.
        stages: names of the three maps of the backbone that are read, shallow to deep; None is the deepest.
        norm: group norm in the head or not; None is as published: for `vgg16` only.
        radius: pairs are closer than this many cells, in training and at inference.
        shrink_radius: less radius for images too small for it, as in SEAM; otherwise they are an error.
        alpha: inference: power of the background score `(1 - max over classes)^alpha`.
        beta: inference: exponent of the affinities.
        log_t: inference: the walk takes `2^log_t` steps.
        optimizer: `sgd` as published, `adamw` for modern backbones.
        lr: base learning rate (PSA's script 0.1, its README 0.07).
        weight_decay: of weights.
        momentum: of SGD; None is the official effective value (see `methods.optimization`).
        head_lr_factor: learning rate of the head's convolutions over that of the backbone.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        poly_power: exponent of the learning-rate schedule.

    Raises:
        WsssZooError: unknown backbone, argument, map or (when training starts) optimizer.
        RecipeError: `alpha`, `beta`, `log_t` or `radius` out of range.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "refiner"

    def __init__(
        self,
        num_classes: int = 20,
        backbone: str = "resnet38d",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        stages: tuple[str, ...] | None = None,
        norm: Literal["none", "group"] | None = None,
        radius: int = 5,
        shrink_radius: bool = False,
        alpha: float = 16.0,
        beta: float = 8.0,
        log_t: int = 8,
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
        RandomWalk(beta, log_t, radius)  # a wrong setting is told now, not after the training
        if not alpha > 0:
            raise WsssZooError(f"AffinityNet: alpha, the power of the background, is above 0, got {alpha!r}")
        arguments = {**_BACKBONE_ARGS.get(backbone, {}), **(backbone_args or {})}
        features = create_backbone(backbone, backbone_weights, **arguments)
        if norm is None:
            norm = "group" if backbone == "vgg16" else "none"
        self.network = AffinityNetwork(features, stages, norm, radius, shrink_radius)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    @property
    def stride(self) -> int:
        """Pixels of the image for one cell of the grid on which affinities live; crops are multiples."""
        return self.network.stride

    def forward(self, images: Tensor) -> Tensor:
        """Affinities `(B, offsets, sources)`."""
        return self.network(images)

    def refine(self, image: Tensor, labels: Tensor, *, maps: Tensor) -> Tensor:
        """Let the localization maps of an image, and a background score, walk along its affinities.

        Args:
            image: `(1, 3, H, W)`, normalised, at its original size.
            labels: `(C,)`; classes with 0 score 0.
            maps: `(C, H, W)` in [0, 1], of this image.

        Returns:
            Scores `(C + 1, H, W)`, background first; the label of a pixel is the argmax.

        Raises:
            DataError: the sizes do not go together, or the image is too small for the radius.
        """
        size = image.shape[2:]
        if len(image) != 1 or maps.shape != (len(labels), *size):
            raise DataError(
                f"AffinityNet refines an image (1, 3, H, W) with maps ({len(labels)}, H, W) of this size, "
                f"got an image {tuple(image.shape)} and maps {tuple(maps.shape)}"
            )
        below, right = (-length % self.stride for length in size)
        canvas = F.pad(image, (0, right, 0, below))
        foreground = maps * labels[:, None, None]
        background = (1 - foreground.amax(0, keepdim=True)).clamp(0, 1) ** self.hparams["alpha"]
        scores = F.pad(torch.cat([background, foreground]), (0, right, 0, below))
        scores = F.avg_pool2d(scores, self.stride)
        affinities = self(canvas)[0]
        radius = self.network.pairs(*scores.shape[1:]).radius
        walk = RandomWalk(self.hparams["beta"], self.hparams["log_t"], radius)
        walked = walk(affinities, scores)[None]
        enlarged = F.interpolate(walked, canvas.shape[2:], mode="bilinear", align_corners=False)[0]
        return enlarged[:, : size[0], : size[1]]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Balanced loss of pairs, from the samples' `scores_low` and `scores_high` `(B, C + 1, h, w)`."""
        grid = self._grid(batch["image"])
        low, high = self._scores(batch, "scores_low", grid), self._scores(batch, "scores_high", grid)
        labels = pair_labels(confident_labels(low, high), self.network.pairs(*grid))
        # the mean over devices, because DDP averages gradients: together the loss of the whole batch
        counts = self.trainer.strategy.reduce(labels.counts(), reduce_op="mean")
        loss = affinity_loss(self(batch["image"]), labels, counts)
        self.log("train/loss", loss.total, prog_bar=True)
        self.log_dict({f"train/loss_{name}": getattr(loss, name) for name in loss._fields[1:]})
        return loss.total

    def configure_optimizers(self) -> Any:
        """Four parameter groups and the poly schedule."""
        return optimizers_from_hparams(self, poly_schedule(self))

    def _grid(self, images: Tensor) -> tuple[int, int]:
        """Rows and columns of the grid of training crops."""
        height, width = images.shape[2:]
        if height % self.stride or width % self.stride:
            raise WsssZooError(
                f"AffinityNet trains on crops whose sides are multiples of its stride {self.stride}, got "
                f"{height} x {width}; set crop_size of the stage's data to such a number (PSA 256, SEAM 448)"
            )
        return height // self.stride, width // self.stride

    def _scores(self, batch: dict[str, Any], name: str, grid: tuple[int, int]) -> Tensor:
        """Scores of the samples on the grid; those of a finer one are averaged over its cells."""
        if name not in batch:
            raise WsssZooError(
                f"AffinityNet trains on {name}, and the training data has none: name the stage that makes it "
                f"(refiner AffinitySeeds) in the fit block's inputs, {name}: <stage>"
            )
        scores: Tensor = batch[name]
        factor = scores.shape[2] // grid[0]
        if scores.shape[1:] != (self.hparams["num_classes"] + 1, factor * grid[0], factor * grid[1]):
            raise WsssZooError(
                f"AffinityNet: {name} have {self.hparams['num_classes'] + 1} planes on a grid of {grid[0]} x "
                f"{grid[1]} or a whole multiple, got {tuple(scores.shape[1:])}"
            )
        return F.avg_pool2d(scores, factor) if factor > 1 else scores
