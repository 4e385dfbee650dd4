"""The poly schedule, its groups and the momentum quirk against the published optimiser."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from wsss_zoo.methods.optimization import configure_optimizers, parameter_groups, poly_factor

FIXTURE = json.loads((Path(__file__).parents[1] / "parity" / "psa_poly_optimizer.json").read_text())


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
        network, [network.new], optimizer="sgd", lr=0.01, weight_decay=0.05, total_steps=10
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
        network, [network.new], optimizer="sgd", lr=1.0, weight_decay=0.1, momentum=0.9, total_steps=2
    )["optimizer"]
    assert [(g["lr"], g["weight_decay"], g["momentum"]) for g in optimizer.param_groups] == [
        (1.0, 0.1, 0.9),
        (2.0, 0.0, 0.9),
        (10.0, 0.1, 0.9),
        (20.0, 0.0, 0.9),
    ]


def test_adamw_decays_neither_biases_nor_norms():
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    optimizer = configure_optimizers(network, [], optimizer="adamw", lr=1.0, weight_decay=0.1, total_steps=2)[
        "optimizer"
    ]
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
