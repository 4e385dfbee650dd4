"""The poly schedule, its groups and the momentum quirk against the published optimiser."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.optimization import (
    configure_optimizers,
    cosine_factor,
    parameter_groups,
    poly_factor,
    training_steps,
)

FIXTURE = json.loads((Path(__file__).parents[1] / "parity" / "psa_poly_optimizer.json").read_text())


def poly(total):
    return partial(poly_factor, total=total)


class FourParameters(nn.Module):
    """One parameter in each group: weight and bias, pretrained and new."""

    def __init__(self, values):
        super().__init__()
        self.old, self.new = nn.Module(), nn.Module()
        for module, (weight, bias) in ((self.old, values[:2]), (self.new, values[2:])):
            module.weight = nn.Parameter(weight)
            module.bias = nn.Parameter(bias)


def test_trajectory_of_the_official_optimiser():
    rng = np.random.default_rng(91)
    starts, targets = (
        [torch.from_numpy(rng.standard_normal(4).astype(np.float32)) for _ in range(4)] for _ in "ab"
    )
    network = FourParameters(starts)
    configured = configure_optimizers(
        network, [network.new], optimizer="sgd", lr=0.01, weight_decay=0.05, schedule=poly(10)
    )
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert {group["momentum"] for group in optimizer.param_groups} == {0.05}
    parameters = [network.old.weight, network.old.bias, network.new.weight, network.new.bias]
    for rates, after in zip(FIXTURE["lr_used_per_step"], FIXTURE["params_after_step"], strict=True):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(rates, rel=1e-12)
        optimizer.zero_grad()
        sum(((p - q) ** 2).sum() for p, q in zip(parameters, targets, strict=True)).backward()
        optimizer.step()
        schedule.step()
        for parameter, expected in zip(parameters, after, strict=True):
            assert parameter.detach().numpy() == pytest.approx(np.array(expected), abs=2e-6)


def test_momentum_can_be_the_one_that_papers_state():
    network = FourParameters([torch.zeros(2) for _ in range(4)])
    optimizer = configure_optimizers(
        network, [network.new], optimizer="sgd", lr=1.0, weight_decay=0.1, momentum=0.9, schedule=poly(2)
    )["optimizer"]
    assert [(g["lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups] == [
        (1.0, 0.1, 0.9),
        (2.0, 0.0, 0.9),
        (10.0, 0.1, 0.9),
        (20.0, 0.0, 0.9),
    ]


def test_adamw_decays_neither_biases_nor_norms():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    optimizer = configure_optimizers(
        network, [], optimizer="adamw", lr=1.0, weight_decay=0.1, schedule=poly(2)
    )["optimizer"]
    decayed = {p for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {network[0].weight}


def test_frozen_parameters_are_in_no_group():
    network = nn.Linear(2, 2)
    network.weight.requires_grad_(False)
    assert [len(group) for group in parameter_groups(network, [])] == [0, 1, 0, 0]


def test_refreshed_every_ten_steps_and_kept_at_the_end():
    assert poly_factor(9, 100, refresh=10) == 1.0
    assert poly_factor(10, 100, refresh=10) == pytest.approx(0.9**0.9)
    assert poly_factor(500, 100) == poly_factor(99, 100) == pytest.approx(0.01**0.9)


def test_biases_can_be_treated_as_weights():
    network = FourParameters([torch.zeros(2) for _ in range(4)])
    optimizer = configure_optimizers(
        network,
        [network.new],
        optimizer="sgd",
        lr=1.0,
        weight_decay=0.1,
        head_lr_factor=5.0,
        caffe_biases=False,
        schedule=poly(2),
    )["optimizer"]
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        (1.0, 0.1),
        (1.0, 0.1),
        (5.0, 0.1),
        (5.0, 0.1),
    ]


@pytest.mark.parametrize(
    ("ramp_epochs", "position", "lr"),  # numbers of SSDD's released schedule, base 1e-3
    [
        (19, 0.5, 0.000998292246503335),
        (19, 10.0, 0.0004587103272638339),
        (19, 15.5, 8.141676086873584e-05),
        (49, 40.5, 7.242861849732695e-05),
    ],
)
def test_cosine_of_ssdd(ramp_epochs, position, lr):
    assert 1e-3 * cosine_factor(round(100 * position), 100 * ramp_epochs) == pytest.approx(lr, rel=1e-9)


def test_the_schedule_survives_a_checkpoint():
    network = nn.Linear(2, 2)

    def configured():
        made = configure_optimizers(network, [], optimizer="sgd", lr=1.0, weight_decay=0.1, schedule=poly(10))
        return made["optimizer"], made["lr_scheduler"]["scheduler"]

    optimizer, schedule = configured()
    for _ in range(4):
        optimizer.step()
        schedule.step()
    again, resumed = configured()
    resumed.load_state_dict(schedule.state_dict())
    again.load_state_dict(optimizer.state_dict())
    for one, other in ((optimizer, schedule), (again, resumed)):
        one.step()
        other.step()
    assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"] == pytest.approx(0.5**0.9)


def test_mistakes_are_named():
    arguments = {"lr": 1.0, "weight_decay": 0.1, "schedule": poly(2)}
    with pytest.raises(WsssZooError, match="did you mean 'adam"):
        configure_optimizers(nn.Linear(2, 2), [], optimizer="adamv", **arguments)
    with pytest.raises(WsssZooError, match="everything is frozen"):
        configure_optimizers(nn.Linear(2, 2).requires_grad_(False), [], optimizer="sgd", **arguments)
    endless = SimpleNamespace(trainer=SimpleNamespace(estimated_stepping_batches=float("inf")))
    with pytest.raises(WsssZooError, match="the trainer has none"):
        training_steps(endless)
