"""Parameter groups, the poly schedule and the optimisers that the methods share."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

#: Learning-rate factors of pretrained weights, their biases, new weights, new biases (PSA, SEAM, SC-CAM).
GROUP_FACTORS = (1.0, 2.0, 10.0, 20.0)


def parameter_groups(
    network: nn.Module, new_modules: Collection[nn.Module]
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Sort what learns: pretrained weights, pretrained biases, new weights, new biases.

    Args:
        network: the whole network; parameters without gradients are left out.
        new_modules: its parts that are trained from scratch.
    """
    new = {id(parameter) for module in new_modules for parameter in module.parameters()}
    groups: tuple[list[nn.Parameter], ...] = ([], [], [], [])
    for name, parameter in _learning(network):
        groups[2 * (id(parameter) in new) + name.endswith("bias")].append(parameter)
    return groups  # type: ignore[return-value]


def poly_factor(step: int, total: int, power: float = 0.9, refresh: int = 1) -> float:
    """`(1 - t/T)^power`, recomputed every `refresh` steps; after T steps the last value stays."""
    step = min(step, total - 1)
    return (1 - (step // refresh * refresh) / total) ** power


def configure_optimizers(
    network: nn.Module,
    new_modules: Collection[nn.Module],
    *,
    optimizer: Literal["sgd", "adamw"],
    lr: float,
    weight_decay: float,
    total_steps: int,
    momentum: float | None = None,
    factors: tuple[float, float, float, float] = GROUP_FACTORS,
    power: float = 0.9,
    refresh: int = 1,
) -> dict[str, Any]:
    """What a LightningModule's `configure_optimizers` returns: four groups, poly schedule per step.

    Biases are not decayed. With `optimizer="adamw"` norm weights (one-dimensional) are not decayed either.

    Args:
        network: the network.
        new_modules: its parts that are trained from scratch.
        optimizer: `sgd`, or `adamw` for modern backbones.
        lr: base learning rate.
        weight_decay: of weights.
        total_steps: T of the schedule.
        momentum: of SGD. None means the effective value of the official releases of PSA, SEAM, SC-CAM and
            IRN, whose optimiser receives the weight decay in the place of the momentum.
        factors: of the learning rate for the four groups, see `parameter_groups`.
        power: exponent of the schedule.
        refresh: steps between changes of the learning rate.
    """
    members = parameter_groups(network, new_modules)
    groups = [
        {
            "params": parameters,
            "lr": lr * factor,
            "weight_decay": 0.0 if index % 2 else weight_decay,
            "name": name,
        }
        for index, (name, parameters, factor) in enumerate(
            zip(("weights", "biases", "new_weights", "new_biases"), members, factors, strict=True)
        )
        if parameters
    ]
    algorithm: torch.optim.Optimizer
    if optimizer == "sgd":
        algorithm = torch.optim.SGD(groups, lr=lr, momentum=weight_decay if momentum is None else momentum)
    else:
        algorithm = torch.optim.AdamW(list(_without_norm_decay(groups)), lr=lr)
    schedule = LambdaLR(algorithm, lambda step: poly_factor(step, total_steps, power, refresh))
    return {"optimizer": algorithm, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _learning(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, item) for name, item in network.named_parameters() if item.requires_grad)


def _without_norm_decay(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for group in groups:
        flat = [parameter for parameter in group["params"] if parameter.ndim <= 1]
        rest = [parameter for parameter in group["params"] if parameter.ndim > 1]
        if rest:
            yield {**group, "params": rest}
        if flat:
            yield {**group, "params": flat, "weight_decay": 0.0, "name": f"{group['name']}_norm"}
