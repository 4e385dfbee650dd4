"""Parameter groups, learning-rate schedules and the optimisers that the methods share."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from wsss_zoo.errors import WsssZooError, suggest

_GROUP_NAMES = ("weights", "biases", "new_weights", "new_biases")
_OPTIMIZERS = ("sgd", "adam", "adamw")
#: What `optimizers_from_hparams` reads.
_HPARAMS = ("optimizer", "lr", "weight_decay", "momentum", "head_lr_factor", "caffe_biases")


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
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            groups[2 * (id(parameter) in new) + name.endswith("bias")].append(parameter)
    return groups  # type: ignore[return-value]


def poly_factor(step: int, total: int, power: float = 0.9, refresh: int = 1) -> float:
    """`(1 - t/T)^power`, recomputed every `refresh` steps; after T steps the last value stays.

    Args:
        step: optimiser steps taken so far, t.
        total: T.
        power: exponent.
        refresh: 1 in PSA's family; 10 in the DeepLab v2 port.
    """
    step = min(step, total - 1)
    return (1 - (step // refresh * refresh) / total) ** power


def cosine_factor(step: int, total: int) -> float:
    """`(cos(pi t/T) + 1) / 2`; 0 after T steps. SSDD's T lies a fifth beyond the end of its training."""
    return 0.5 * (math.cos(math.pi * min(step, total) / total) + 1)


def halving_factor(step: int, every: float) -> float:
    """`0.5^floor(t/every)`: the learning rate is halved after every so many steps (FickleNet)."""
    return 0.5 ** (step // every)


def step_factor(step: int, every: int, factor: float) -> float:
    """`factor^floor(t/every)`: Caffe's step policy (SEC: 0.1 every 2000 steps, DSRG: 0.33 every 1000)."""
    return factor ** (step // every)


def training_steps(module: Any) -> int:
    """Optimiser steps of the whole training of a LightningModule that is attached to a trainer.

    Raises:
        WsssZooError: the training has no end, so that a schedule that ends has no meaning.
    """
    steps = module.trainer.estimated_stepping_batches
    if not math.isfinite(steps):
        raise WsssZooError(
            "the learning-rate schedule needs the length of the training, but the trainer has none: "
            "set trainer.max_epochs or trainer.max_steps"
        )
    return int(steps)


def poly_schedule(module: Any, total: int | None = None) -> Callable[[int], float]:
    """The poly schedule with the hyper-parameter `poly_power` of a module.

    Args:
        module: the LightningModule.
        total: steps after which the learning rate would be 0; None: those of the whole training.

    Raises:
        WsssZooError: see `training_steps`.
    """
    total = training_steps(module) if total is None else total
    return partial(poly_factor, total=total, power=module.hparams["poly_power"])


def optimizers_from_hparams(
    module: Any,
    schedule: Callable[[int], float],
    network: nn.Module | None = None,
    new_modules: Collection[nn.Module] | None = None,
    **instead: Any,
) -> dict[str, Any]:
    """`configure_optimizers` with the hyper-parameters of the same names of a module.

    Args:
        module: the LightningModule.
        schedule: steps taken -> factor of every learning rate.
        network: see `configure_optimizers`; None: the module's `network`.
        new_modules: see `configure_optimizers`; None: `new_modules()` of the module's `network`.
        instead: arguments that the module does not take from its hyper-parameters.

    Raises:
        WsssZooError: see `configure_optimizers`.
    """
    settings = {name: module.hparams[name] for name in _HPARAMS if name not in instead}
    new_modules = module.network.new_modules() if new_modules is None else new_modules
    network = module.network if network is None else network
    return configure_optimizers(network, new_modules, schedule=schedule, **settings, **instead)


def configure_optimizers(
    network: nn.Module,
    new_modules: Collection[nn.Module],
    *,
    optimizer: Literal["sgd", "adam", "adamw"],
    lr: float,
    weight_decay: float,
    schedule: Callable[[int], float],
    momentum: float | None = None,
    head_lr_factor: float = 10.0,
    caffe_biases: bool = True,
) -> dict[str, Any]:
    """What a LightningModule's `configure_optimizers` returns: parameter groups and a schedule per step.

    Args:
        network: the network; parameters without gradients are left out.
        new_modules: its parts that are trained from scratch.
        optimizer: `sgd`, `adam` with its default betas, or `adamw` for modern backbones (which then does not
            decay norm layers and biases).
        lr: base learning rate, of pretrained weights.
        weight_decay: of weights.
        schedule: steps taken -> factor of every learning rate.
        momentum: of SGD, without Nesterov and dampening. None means the effective value of the official
            releases of PSA, SEAM, SC-CAM and IRN, whose optimiser receives the weight decay in the place of
            the momentum (the 0.9 they call momentum is the exponent of the schedule).
        head_lr_factor: learning rate of new parts over the base.
        caffe_biases: biases learn twice as fast as weights and are not decayed (the custom of Caffe, PSA,
            SEAM, DeepLab); otherwise they are treated as weights (IRN, SSDD).

    Raises:
        WsssZooError: the optimiser is unknown, or nothing learns.
    """
    if optimizer not in _OPTIMIZERS:
        raise WsssZooError(f"there is no optimizer {optimizer!r}; {suggest(optimizer, _OPTIMIZERS)}")
    bias = 2.0 if caffe_biases else 1.0
    factors = (1.0, bias, head_lr_factor, bias * head_lr_factor)
    members = parameter_groups(network, new_modules)
    groups = [
        {
            "params": parameters,
            "lr": lr * factor,
            "weight_decay": 0.0 if caffe_biases and name.endswith("biases") else weight_decay,
            "name": name,
        }
        for name, parameters, factor in zip(_GROUP_NAMES, members, factors, strict=True)
        if parameters
    ]
    if not groups:
        raise WsssZooError("no parameter of the network learns: everything is frozen")
    algorithm: torch.optim.Optimizer
    if optimizer == "sgd":
        algorithm = torch.optim.SGD(groups, lr=lr, momentum=weight_decay if momentum is None else momentum)
    elif optimizer == "adam":
        algorithm = torch.optim.Adam(groups, lr=lr)
    else:
        algorithm = torch.optim.AdamW(list(_without_vector_decay(groups)), lr=lr)
    return {
        "optimizer": algorithm,
        "lr_scheduler": {"scheduler": LambdaLR(algorithm, schedule), "interval": "step"},
    }


def _without_vector_decay(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Split off vectors (norm layers, biases) from groups that are decayed."""
    for group in groups:
        if not group["weight_decay"]:
            yield group
            continue
        vectors = [parameter for parameter in group["params"] if parameter.ndim <= 1]
        arrays = [parameter for parameter in group["params"] if parameter.ndim > 1]
        if arrays:
            yield {**group, "params": arrays}
        if vectors:
            yield {**group, "params": vectors, "weight_decay": 0.0, "name": f"{group['name']}_vectors"}
