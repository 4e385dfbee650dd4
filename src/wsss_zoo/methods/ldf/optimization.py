"""The learning-rate schedule and the two parameter groups of LDF."""

from __future__ import annotations

import math
from typing import Any

from wsss_zoo.methods.ldf.network import LDFNetwork
from wsss_zoo.methods.optimization import training_steps


def triangular_factor(epoch: int, epochs: int) -> float:
    """`1 - |2 (e + 1) / (E + 1) - 1|`: up to E / (E + 1) at half time and down again; 0 after E epochs.

    Args:
        epoch: epochs finished so far, e; the rate is constant within an epoch.
        epochs: E.
    """
    return max(0.0, 1 - abs(2 * (epoch + 1) / (epochs + 1) - 1))


def training_epochs(module: Any) -> int:
    """Epochs of the whole training of a LightningModule that is attached to a trainer.

    Where the trainer counts steps only, the epochs that they fill, the last one perhaps in part.

    Raises:
        WsssZooError: the training has no end.
    """
    trainer = module.trainer
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        return int(trainer.max_epochs)
    steps = training_steps(module)
    return math.ceil(steps * trainer.accumulate_grad_batches / trainer.num_training_batches)


def parameter_groups(
    network: LDFNetwork, lr: float, backbone_lr_factor: float, weight_decay: float
) -> list[dict[str, Any]]:
    """What learns of the backbone, and everything else; weight decay holds for biases and norms, too.

    Args:
        network: the network; parameters without gradients are in no group.
        lr: learning rate of everything outside the backbone.
        backbone_lr_factor: learning rate of the backbone over it.
        weight_decay: of both.
    """
    backbone = [item for _, item in network.backbone.pretrained_parameters()]
    rest = [item for part in network.new_modules() for item in part.parameters() if item.requires_grad]
    groups = (("backbone", backbone, lr * backbone_lr_factor), ("head", rest, lr))
    return [
        {"params": parameters, "lr": rate, "weight_decay": weight_decay, "name": name}
        for name, parameters, rate in groups
        if parameters
    ]
