"""LDF as a LightningModule: salient object detection trained on decoupled labels."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from wsss_zoo.backbones import create_backbone
from wsss_zoo.errors import WsssZooError, suggest
from wsss_zoo.methods.ldf.losses import decoupled_loss
from wsss_zoo.methods.ldf.network import STRIDES, LDFNetwork
from wsss_zoo.methods.ldf.optimization import parameter_groups, training_epochs, triangular_factor
from wsss_zoo.methods.optimization import configure_optimizers
from wsss_zoo.normalization import DUTS, Normalization

Branch = Literal["body", "detail", "edge", "saliency"]
_BRANCHES = ("body", "detail", "edge", "saliency")
#: What the training sample calls the target of a branch.
_SAMPLE_KEYS = {"body": "body", "detail": "detail", "edge": "edge", "saliency": "mask"}
#: Backbones that keep a higher resolution unless told otherwise.
_OWN_STRIDE = {"resnet50": {"output_stride": 32}, "resnet101": {"output_stride": 32}}


class LDF(L.LightningModule):
    """Label decoupling for salient object detection (Wei et al., CVPR 2020); defaults are the release's.

    It is trained twice, each time from ImageNet weights: coarse, 48 epochs on the body and detail maps that
    `wsss_zoo.data.label_decoupling` computes from the masks, then fine, 40 epochs on those that the coarse
    model predicts for the training images (`predict.outputs: [body, detail]`). Samples are `image`
    `(B, 3, S, S)`, and `mask`, `body`, `detail` (or what `branches` names) `(B, S, S)` in [0, 1], grey levels
    as they are; S is a multiple of 32.

    Differences from the original: the release trained in apex half precision (`16-mixed` is Lightning's).
    Images are normalised with the authors' numbers for `resnet50`; other backbones keep the numbers that they
    were trained with. Only ResNets have a stem that is not learnt.

    Args:
        backbone: see `create_backbone`; needs maps at the strides 4, 8, 16 and 32.
        backbone_weights: `imagenet`, a file, or None for random weights.
        backbone_args: arguments of the backbone's class.
        branches: what the two branches learn to predict (the paper's table 5): `body`, `detail`, `edge` (see
            `wsss_zoo.data.label_decoupling.edge_map`) or `saliency`, the mask. `("saliency", "saliency")` is
            the same network without decoupled labels.
        interactions: how often the branches exchange features.
        channels: of the decoders.
        optimizer: `sgd` (with Nesterov momentum), or `adamw` for modern backbones, which then does not decay
            norm layers and biases.
        lr: base learning rate, of everything outside the backbone.
        weight_decay: of all parameters.
        momentum: of SGD.
        backbone_lr_factor: learning rate of the backbone over the base.
        test_size: side of the square that images are resized to for inference, a multiple of 32.

    Raises:
        WsssZooError: unknown backbone, backbone argument, branch or (when training starts) optimizer; the
            backbone lacks a stride; `test_size` is not a multiple of 32.
        WeightsError: `backbone_weights` cannot be read or do not fit.
    """

    kind = "saliency"

    def __init__(
        self,
        backbone: str = "resnet50",
        backbone_weights: str | None = None,
        backbone_args: dict[str, Any] | None = None,
        branches: tuple[Branch, Branch] = ("body", "detail"),
        interactions: int = 1,
        channels: int = 64,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        lr: float = 0.05,
        weight_decay: float = 5e-4,
        momentum: float = 0.9,
        backbone_lr_factor: float = 0.1,
        test_size: int = 352,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if len(branches) != 2:
            raise WsssZooError(f"LDF has two branches, `branches` names {len(branches)}: {list(branches)}")
        for branch in branches:
            if branch not in _BRANCHES:
                raise WsssZooError(f"LDF: there is no branch {branch!r}; {suggest(branch, _BRANCHES)}")
        if test_size < 1 or test_size % STRIDES[-1]:
            raise WsssZooError(f"LDF: test_size is a multiple of {STRIDES[-1]}, got {test_size}")
        arguments = {**_OWN_STRIDE.get(backbone, {}), **(backbone_args or {})}
        features = create_backbone(backbone, backbone_weights, **arguments)
        self.network = LDFNetwork(features, channels, interactions)
        self.val_mae = MeanMetric()

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return DUTS if self.hparams["backbone"] == "resnet50" else self.network.backbone.normalization

    @property
    def targets(self) -> tuple[str, ...]:
        """What training samples must hold besides `image` and `mask`: the branches that are not the mask."""
        return tuple(dict.fromkeys(name for name in self.hparams["branches"] if name != "saliency"))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits `(B, 1, H, W)`: body, detail and saliency of the first pass, then of the second."""
        return self.network(images)

    def saliency(self, images: Tensor) -> Tensor:
        """Saliency maps.

        Args:
            images: normalised, of any size, `(B, 3, H, W)`.

        Returns:
            `(B, 1, H, W)` in [0, 1].
        """
        return self.saliency_maps(images)["saliency"]

    def saliency_maps(self, images: Tensor) -> dict[str, Tensor]:
        """What the last pass gives: the saliency maps, and those of the branches by their names.

        Args:
            images: normalised, of any size, `(B, 3, H, W)`.

        Returns:
            `body`, `detail` (or what `branches` names) and `saliency`, each `(B, 1, H, W)` in [0, 1]. With a
            branch that is called `saliency`, this is still the map that both branches make together.
        """
        logits = self.network(self.to_test_size(images), images.shape[2:])[-3:]
        names = (*self.hparams["branches"], "saliency")
        return {name: x.float().sigmoid() for name, x in zip(names, logits, strict=True)}

    def to_test_size(self, images: Tensor) -> Tensor:
        """Normalised images `(B, 3, H, W)` at the size of inference (bilinear, not antialiased)."""
        size = (self.hparams["test_size"],) * 2
        # in float64: the positions of float32 are off by 1e-4 of a grey level where images shrink
        return F.interpolate(images.double(), size, mode="bilinear", align_corners=False).to(images.dtype)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """The mean loss of both passes."""
        first, second = (self._target(batch, name) for name in self.hparams["branches"])
        loss = decoupled_loss(self(batch["image"]), first, second, self._target(batch, "saliency"))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Absolute error of the saliency maps, at the size of inference and back."""
        maps = self.saliency(batch["image"])
        error = (maps - self._target(batch, "saliency").reshape(maps.shape)).abs()
        self.val_mae.update(error.mean((1, 2, 3)))

    def on_validation_epoch_end(self) -> None:
        """Log `val/mae`: the mean over images of the mean absolute error, masks not thresholded."""
        self.log("val/mae", self.val_mae.compute(), prog_bar=True)
        self.val_mae.reset()

    def configure_optimizers(self) -> Any:
        """Backbone and the rest as parameter groups; a triangular schedule, one step an epoch."""
        settings = self.hparams
        lr, factor = settings["lr"], settings["backbone_lr_factor"]
        schedule = partial(triangular_factor, epochs=training_epochs(self))
        if settings["optimizer"] == "sgd":
            groups = parameter_groups(self.network, lr, factor, settings["weight_decay"])
            momentum = settings["momentum"]
            sgd = torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
            scheduler = {"scheduler": LambdaLR(sgd, schedule), "interval": "epoch"}
            return {"optimizer": sgd, "lr_scheduler": scheduler}
        configured = configure_optimizers(
            self.network,
            self.network.new_modules(),
            optimizer=settings["optimizer"],
            lr=lr * factor,
            weight_decay=settings["weight_decay"],
            schedule=schedule,
            head_lr_factor=1 / factor,
            caffe_biases=False,
        )
        configured["lr_scheduler"]["interval"] = "epoch"
        return configured

    def _target(self, batch: dict[str, Any], branch: str) -> Tensor:
        key = _SAMPLE_KEYS[branch]
        if key not in batch:
            raise WsssZooError(
                f"LDF learns {branch!r}, but the training samples have no {key!r}, only "
                f"{', '.join(sorted(batch))}; name it in the data module's `targets`, or change `branches`"
            )
        return batch[key]
