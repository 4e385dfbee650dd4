"""DSRG as a LightningModule, which also trains SEC and FickleNet's segmentation network."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.deeplab.losses import IGNORE, shrink_labels
from wsss_zoo.methods.deeplab.network import DeepLabNetwork
from wsss_zoo.methods.deeplab.variants import VARIANTS, build_network
from wsss_zoo.methods.dsrg.boundary import (
    CRF_ENERGIES,
    CrfEnergy,
    crf_images,
    crf_log_marginals,
    pass_surrogate_gradient,
)
from wsss_zoo.methods.dsrg.growing import grow
from wsss_zoo.methods.dsrg.losses import (
    balanced_seed,
    constrain,
    expand,
    full,
    sec_seed,
    smooth_probabilities,
)
from wsss_zoo.methods.optimization import optimizers_from_hparams, poly_schedule, step_factor
from wsss_zoo.methods.validation import SegmentationValidation
from wsss_zoo.metrics import MeanIoU
from wsss_zoo.normalization import Normalization
from wsss_zoo.refine.dense_crf import DenseCRF

_SEED_LOSSES = {"balanced": balanced_seed, "sec": sec_seed}
_CHOICES = {
    "variant": ("vgg16_aspp", "largefov", "v2", "aspp", "v3plus"),
    "seed_loss": tuple(_SEED_LOSSES),
    "crf_energy": CRF_ENERGIES,
    "crf_gradient": ("blocked", "surrogate"),
    "schedule": ("step", "poly"),
}


class DSRG(SegmentationValidation):
    """Segmentation network trained on seeds that grow while it learns (Huang et al., CVPR 2018).

    Each step runs a dense CRF over the network's own score maps. Seeds grow into the regions where its
    marginals are sure of a class of the image, anew from the original seeds each time; the network is pulled
    towards the grown seeds (balanced seed loss) and towards the marginals (boundary loss). FickleNet (Lee et
    al., CVPR 2019) trains its network in the same way on seeds of its own. Defaults are those of the release:
    whole images squashed to 321 x 321, batches of 20, 8000 steps. Its second step, training on the masks of
    the first, is `DeepLab` with the same variant.

    SEC (Kolesnikov & Lampert, ECCV 2016) is `variant="largefov", seed_loss="sec", grow=False,
    expand_weight=1, crf_energy="neg_log_prob", ratio_range=None, lr=1e-3, step_every=2000, step_factor=0.1`.

    Semi-supervised: samples with `strong` (see `SegmentationDataModule`) add the full loss of their masks.

    Differences from the original: no gradient flows through the CRF (`crf_gradient="surrogate"` as the
    release); ResNet-101, for which nothing was released, is DeepLab v2's, seen at one scale.

    Args:
        variant: the network, see `DeepLab`: `vgg16_aspp` (DSRG), `largefov` (SEC), `v2` (ResNet-101), or
            `aspp` and `v3plus` for any backbone.
        num_classes: foreground classes C; the network has C + 1 outputs.
        backbone: see `create_backbone`; None is the variant's own.
        backbone_weights: `imagenet`, a file (`vgg16_20M` fills all four branches), or None for random ones.
        backbone_args: arguments of the backbone's class.
        aspp_channels: see `DeepLab`.
        aspp_rates: see `DeepLab`.
        seed_loss: `balanced` between background and foreground, or `sec`, over all seeds alike.
        seed_weight: of the seed loss.
        boundary_weight: of the constrain-to-boundary loss; 0 leaves it out.
        expand_weight: of SEC's expansion loss; 0 leaves it out.
        full_weight: of the full loss of strongly annotated images (FickleNet's alpha).
        grow: let the seeds grow; otherwise they are used as they are.
        grow_background: marginal above which background grows.
        grow_foreground: marginal above which other classes grow.
        crf_energy: what the CRF in the loop is fed: `neg_prob` (DSRG) or `neg_log_prob` (SEC).
        crf_gradient: `blocked`, or `surrogate`, see `pass_surrogate_gradient`.
        crf_scale_factor: spatial deviations of the CRF's kernels are divided by it, because it works on the
            score map.
        crf_backend: engine of the CRF in the loop, see `DenseCRF`; the results are the same.
        ratio_range: clips Q / P in the boundary loss; None: as SEC.
        test_size: side to which images are squashed for inference at scale 1, as in training; None keeps
            their size.
        align_corners: how score maps are enlarged.
        optimizer: `sgd`, or `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights.
        momentum: of SGD.
        head_lr_factor: learning rate of the last layer over that of the others.
        caffe_biases: biases learn twice as fast as weights and are not decayed.
        schedule: `step`, or `poly` to the end of the training.
        step_every: steps after which the learning rate changes in the step schedule.
        step_factor: what it is multiplied by then.
        poly_power: exponent of the poly schedule.

    Raises:
        WsssZooError: unknown variant, backbone, argument or choice, or a value out of range.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "segmenter"

    def __init__(
        self,
        variant: Literal["vgg16_aspp", "largefov", "v2", "aspp", "v3plus"] = "vgg16_aspp",
        num_classes: int = 20,
        backbone: str | None = None,
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        aspp_channels: int = 256,
        aspp_rates: tuple[int, ...] | None = None,
        seed_loss: Literal["balanced", "sec"] = "balanced",
        seed_weight: float = 1.0,
        boundary_weight: float = 1.0,
        expand_weight: float = 0.0,
        full_weight: float = 2.0,
        grow: bool = True,
        grow_background: float = 0.99,
        grow_foreground: float = 0.85,
        crf_energy: Literal["neg_prob", "neg_log_prob"] = "neg_prob",
        crf_gradient: Literal["blocked", "surrogate"] = "blocked",
        crf_scale_factor: float = 12.0,
        crf_backend: Literal["auto", "numba", "torch", "pydensecrf"] = "auto",
        ratio_range: tuple[float, float] | None = (0.05, 20.0),
        test_size: int | None = 321,
        align_corners: bool = True,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 5e-4,
        weight_decay: float = 5e-4,
        momentum: float = 0.9,
        head_lr_factor: float = 10.0,
        caffe_biases: bool = True,
        schedule: Literal["step", "poly"] = "step",
        step_every: int = 1000,
        step_factor: float = 0.33,
        poly_power: float = 0.9,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self._check_hparams()
        name = backbone or VARIANTS[variant].backbone
        features = create_backbone(name, backbone_weights, **(backbone_args or {}))
        network = build_network(variant, features, num_classes + 1, aspp_channels, aspp_rates)
        # v2 brings its three scales along; the objective is one of the score map of a single scale
        self.network = DeepLabNetwork(network.backbone, network.head)
        self.crf = DenseCRF("dsrg_loss", crf_backend, scale_factor=crf_scale_factor)
        self.val_iou = MeanIoU(num_classes + 1)

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    @property
    def align_corners(self) -> bool:
        """How score maps are enlarged, here and in multi-scale inference."""
        return bool(self.hparams["align_corners"])

    @property
    def test_size(self) -> int | None:
        """Side to which images are squashed for inference at scale 1."""
        size: int | None = self.hparams["test_size"]
        return size

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, C + 1, h, w)` at feature size."""
        logits = self.network(images)
        assert isinstance(logits, Tensor)  # one scale
        return logits

    def segment(self, images: Tensor) -> Tensor:
        """Probabilities `(B, C + 1, H, W)` at the size of the images, which are squashed to `test_size`."""
        size, square = images.shape[2:], self.test_size
        if square is not None and tuple(size) != (square, square):
            images = F.interpolate(images, (square, square), mode="bilinear", antialias=True)
        logits = self(images)
        return F.interpolate(logits, size, mode="bilinear", align_corners=self.align_corners).softmax(1)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The weighted sum of the terms; each is logged as `train/loss_<term>`.

        `train/seeds` and `train/grown_seeds` are the seeds of a pixel before and after growing.
        """
        settings = self.hparams
        losses = self.losses(self(batch["image"]).float(), batch)
        loss = torch.stack([settings[f"{name}_weight"] * value for name, value in losses.items()]).sum()
        self.log("train/loss", loss, prog_bar=True)
        self.log_dict({f"train/loss_{name}": value for name, value in losses.items()})
        return loss

    def losses(self, logits: Tensor, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The terms of the objective, not weighted.

        Args:
            logits: `(B, C + 1, h, w)` of the batch's images.
            batch: `image`, `labels`, `seeds`; for semi-supervised training `strong` and `mask`.

        Returns:
            `seed`, and where they have a weight `boundary`, `expand`, `full`: scalars.

        Raises:
            WsssZooError: the batch has no seeds, or not on the grid of the logits.
        """
        settings = self.hparams
        seeds = self._seeds(batch, logits)
        probabilities = smooth_probabilities(logits)
        losses: dict[str, Tensor] = {}
        if settings["grow"] or settings["boundary_weight"]:
            log_marginals = self._log_marginals(batch["image"], logits, probabilities)
        if settings["grow"]:
            thresholds = settings["grow_background"], settings["grow_foreground"]
            present = F.pad(batch["labels"], (1, 0), value=1.0)
            grown = grow(seeds, log_marginals.detach().exp(), present, *thresholds)
            self.log_dict({"train/seeds": _a_pixel(seeds), "train/grown_seeds": _a_pixel(grown)})
            seeds = grown
        losses["seed"] = _SEED_LOSSES[settings["seed_loss"]](probabilities, seeds)
        if settings["boundary_weight"]:
            losses["boundary"] = constrain(probabilities, log_marginals, settings["ratio_range"])
        if settings["expand_weight"]:
            losses["expand"] = expand(probabilities, batch["labels"])
        if settings["full_weight"] and "strong" in batch:
            mask = batch["mask"].where(batch["strong"][:, None, None], IGNORE)
            losses["full"] = full(probabilities, shrink_labels(mask, logits.shape[2:]))
        return losses

    def configure_optimizers(self) -> Any:
        """Four parameter groups and the schedule."""
        settings = self.hparams
        if settings["schedule"] == "poly":
            return optimizers_from_hparams(self, poly_schedule(self))
        steps = partial(step_factor, every=settings["step_every"], factor=settings["step_factor"])
        return optimizers_from_hparams(self, steps)

    def _log_marginals(self, images: Tensor, logits: Tensor, probabilities: Tensor) -> Tensor:
        """Log marginals of the CRF over the score maps, with a gradient only where it is asked for."""
        energy: CrfEnergy = self.hparams["crf_energy"]
        # SEC hands over its logits, before anything is added to a probability
        scores = probabilities if energy == "neg_prob" else logits.softmax(1)
        small = crf_images(images, (logits.shape[2], logits.shape[3]), self.normalization)
        log_marginals = crf_log_marginals(small, scores.detach(), energy, self.crf)
        if self.hparams["crf_gradient"] == "surrogate":
            given = probabilities if energy == "neg_prob" else logits
            return pass_surrogate_gradient(log_marginals, given)
        return log_marginals

    def _seeds(self, batch: dict[str, Any], logits: Tensor) -> Tensor:
        if "seeds" not in batch:
            raise WsssZooError(
                "DSRG trains on seeds and the training data has none: name the stage that makes them in the "
                "fit block's inputs, seeds: <stage> (refiner SeedCues or FickleSeeds)"
            )
        seeds: Tensor = batch["seeds"]
        if seeds.shape != logits.shape:
            grid, needed = tuple(seeds.shape[2:]), tuple(logits.shape[2:])
            raise WsssZooError(
                f"DSRG: the seeds lie on a grid of {grid[0]} x {grid[1]} with {seeds.shape[1]} planes, the "
                f"score map of {tuple(batch['image'].shape[2:])} pixels is {needed[0]} x {needed[1]} with "
                f"{logits.shape[1]}; make the seeds anew with grid: [{needed[0]}, {needed[1]}]"
            )
        return seeds

    def _check_hparams(self) -> None:
        settings = self.hparams
        for name, known in _CHOICES.items():
            if settings[name] not in known:
                raise WsssZooError(f"DSRG has no {name} {settings[name]!r}; {suggest(settings[name], known)}")
        for name in ("seed_weight", "boundary_weight", "expand_weight", "full_weight"):
            if not settings[name] >= 0:
                raise WsssZooError(f"DSRG: {name} must not be negative, got {settings[name]!r}")
        for name in ("grow_background", "grow_foreground"):
            if not 0 <= settings[name] <= 1:
                raise WsssZooError(f"DSRG: {name} lies in [0, 1], got {settings[name]!r}")


def _a_pixel(seeds: Tensor) -> Tensor:
    """Seeds of a pixel, on average."""
    return seeds.sum(1).mean()
