"""What both stages of SSDD share: validation, two optimisers, and the schedule."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.optimization import cosine_factor, optimizers_from_hparams, training_steps
from wsss_zoo.methods.ssdd.network import SSDDNetwork
from wsss_zoo.methods.validation import SegmentationValidation
from wsss_zoo.normalization import Normalization


class DifferenceTraining(SegmentationValidation):
    """Training of a segmentation network beside difference detectors that read it.

    One optimiser has the backbone and the heads, one the detectors. Lightning counts the steps of both, so
    that `trainer.max_steps` is reached after half as many batches; `max_epochs` is not concerned.

    Attributes:
        network: the network; a subclass sets it, and calls `save_hyperparameters` with `optimizer`, `lr`,
            `weight_decay`, `momentum`, `head_lr_factor` and `ramp_epochs`.
    """

    network: SSDDNetwork

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    @property
    def normalization(self) -> Normalization:
        """How images become input."""
        return self.network.backbone.normalization

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(B, C + 1, h, w)` of the main head on the grid of stride 4."""
        return self.network(images)

    def segment(self, images: Tensor) -> Tensor:
        """Probabilities `(B, C + 1, H, W)` of the main head at the size of the images, one scale."""
        return self.network(images, images.shape[2:]).softmax(1)

    def descend(self, segmentation: Tensor, difference: Tensor) -> None:
        """One step of both optimisers and their schedules.

        Args:
            segmentation: loss of backbone and heads.
            difference: loss of the detectors; its gradient ends at the features that they read.
        """
        optimizers: list[Any] = self.optimizers()  # type: ignore[assignment]
        for optimizer in optimizers:
            optimizer.zero_grad()
        # No parameter is reached by both losses, so the gradients of the sum are those of two passes; in
        # distributed training gradients are exchanged once for each backward pass.
        self.manual_backward(segmentation + difference)
        for optimizer in optimizers:
            optimizer.step()
        schedulers: list[Any] = self.lr_schedulers()  # type: ignore[assignment]
        for scheduler in schedulers:
            scheduler.step()
        self.log("train/loss", segmentation.detach() + difference.detach(), prog_bar=True)
        self.log("train/loss_segmentation", segmentation.detach())
        self.log("train/loss_difference", difference.detach())

    def configure_optimizers(self) -> Any:
        """Backbone and heads; detectors. All of a cosine that would reach 0 after `ramp_epochs`.

        Raises:
            WsssZooError: there are no detectors, an optimiser is unknown, or the training has no length.
        """
        if len(self.network.detectors) == 0:
            raise WsssZooError(
                "SSDD without difference detectors segments, no more; set training_parts to train it"
            )
        segmentation = nn.ModuleDict(
            {"backbone": self.network.backbone, "heads": nn.ModuleList(self.network.heads)}
        )
        schedule = partial(cosine_factor, total=self._ramp_steps())
        return [
            optimizers_from_hparams(self, schedule, network, new_modules, caffe_biases=False)
            for network, new_modules in (
                (segmentation, self.network.heads),
                (self.network.detectors, [self.network.detectors]),
            )
        ]

    def _ramp_steps(self) -> int:
        """Batches after which the learning rate would be 0."""
        steps, epochs = training_steps(self), self.trainer.max_epochs or 0
        if self.trainer.max_steps > 0:
            # which counts both optimisers; the batch in which it is reached is finished
            steps = min(steps, -(-self.trainer.max_steps // 2))
        ramp = self.hparams["ramp_epochs"]
        if epochs <= 0:
            if ramp is not None:
                raise WsssZooError(
                    "ramp_epochs has no meaning where trainer.max_steps alone ends the training"
                )
            return round(1.2 * steps)
        if ramp is None:
            ramp = int(1.2 * epochs)
        return max(1, round(ramp * steps / epochs))


def training_input(batch: dict[str, Any], role: str, method: str) -> Tensor:
    """What a sample holds under a role of the stage's `fit.inputs`.

    Raises:
        WsssZooError: it holds none.
    """
    if role not in batch:
        raise WsssZooError(
            f"{method} trains on {role}, and the training data has none: name the stage that makes it in the "
            f"fit block's inputs, {role}: <stage>"
        )
    value: Tensor = batch[role]
    return value
