"""Localization maps of many selections: the closed form against back-propagation, and how they are merged."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from tests.methods.test_ficklenet_head import KINDS, features, head
from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.ficklenet import localization
from wsss_zoo.methods.ficklenet.expansion import gradient_maps
from wsss_zoo.methods.ficklenet.head import FickleHead
from wsss_zoo.methods.ficklenet.localization import over_maximum, sample_maps


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def maps_one_by_one(x, made, classes, count):
    """`(N, K, h, w)`, over their maxima, by back-propagation through the expanded map."""
    kept = made.draw(count, x, generator())
    return torch.stack(
        [over_maximum(gradient_maps(x, made, kept[i : i + 1], classes)[0]) for i in range(count)]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_back_propagation(kind):
    made, x = head(**kind), features(1).detach()
    each = maps_one_by_one(x, made, [1, 3], 7)
    sampled = sample_maps(made, x, torch.tensor([1, 3]), 7, generator())
    assert torch.allclose(sampled.mean, each.mean(0), atol=1e-12, rtol=0)
    assert torch.allclose(sampled.maximum, each.amax(0), atol=1e-12, rtol=0)
    assert sampled.maximum.max() == 1


def test_parts_sum_to_the_score():
    made, x = head(), features(1)
    kept = made.draw(1, x)
    summed = (made.parts(x) * kept).sum((1, 2)) / 28
    assert torch.allclose(made.bias + summed, made.scores(x, kept)[0], atol=1e-12)


def test_any_of_n_maps_is_above_where_their_maximum_is():
    made, x = head(), features(1).detach()
    each = maps_one_by_one(x, made, [0, 2], 12)
    sampled = sample_maps(made, x, torch.tensor([0, 2]), 12, generator())
    for threshold in (0.05, 0.35, 0.8):
        assert torch.equal((each > threshold).any(0), sampled.maximum > threshold)


def test_more_maps_only_add_places():
    made, x = head(), features(1).detach()
    classes = torch.tensor([0, 2])
    maxima = [sample_maps(made, x, classes, n, generator()).maximum for n in (1, 2, 5, 40)]
    assert all((more >= fewer).all() for fewer, more in pairwise(maxima))
    assert (maxima[-1] > 0.35).sum() > (maxima[0] > 0.35).sum()


def test_what_is_drawn_at_once_does_not_matter(monkeypatch):
    made, x = head(), features(1).detach()
    classes = torch.tensor([0, 2])
    whole = sample_maps(made, x, classes, 11, generator())
    monkeypatch.setattr(localization, "_DRAWN_AT_ONCE", 3 * 28 * 25)
    parts = sample_maps(made, x, classes, 11, generator())
    assert torch.equal(whole.maximum, parts.maximum)
    assert torch.allclose(whole.mean, parts.mean, atol=1e-14)


def test_memory_does_not_depend_on_the_number_of_maps(monkeypatch):
    drawn = []
    made, x = FickleHead(4, 2, 3, 0.5), torch.randn(1, 4, 10, 10)
    draw = made.draw

    def recorded(*arguments):
        kept = draw(*arguments)
        drawn.append(kept.numel())
        return kept

    monkeypatch.setattr(made, "draw", recorded)
    monkeypatch.setattr(localization, "_DRAWN_AT_ONCE", 5000)
    for count in (20, 200):
        drawn.clear()
        sample_maps(made, x, torch.tensor([0]), count)
        assert sum(drawn) == count * 900
        assert max(drawn) <= 5000


def test_every_map_is_resized_before_they_are_merged():
    made, x = head(), features(1).detach()
    each = interpolate(maps_one_by_one(x, made, [1], 6), (5, 9), mode="bilinear", align_corners=False)
    sampled = sample_maps(made, x, torch.tensor([1]), 6, generator(), (5, 9))
    assert torch.allclose(sampled.maximum, each.amax(0), atol=1e-12)
    afterwards = sample_maps(made, x, torch.tensor([1]), 6, generator()).maximum
    afterwards = interpolate(afterwards[None], (5, 9), mode="bilinear", align_corners=False)[0]
    assert not torch.allclose(sampled.maximum, afterwards, atol=1e-3)


def test_without_dropping_there_is_one_map():
    made, x = head(p=0.0), features(1).detach()
    sampled = sample_maps(made, x, torch.tensor([1]), 200)
    expected = over_maximum(gradient_maps(x, made, None, [1])[0])
    assert torch.allclose(sampled.mean, expected, atol=1e-12)
    assert torch.equal(sampled.mean, sampled.maximum)


def test_a_class_that_nothing_speaks_for_has_no_map():
    made, x = head(), features(1).detach().abs()
    nn.init.constant_(made.weight, -1)
    sampled = sample_maps(made, x, torch.tensor([0, 1]), 3)
    assert sampled.maximum.abs().max() == 0
    assert sampled.mean.abs().max() == 0
    none = torch.tensor([], dtype=torch.long)
    assert sample_maps(made, x, none, 3).mean.shape == (0, 7, 4)
    assert sample_maps(made, x, none, 3, size=(5, 5)).maximum.shape == (0, 5, 5)


def test_float32_is_close_to_float64():
    made, x = head(32, 3, 9, 0.9), features(1, 32, 15, 13).detach().relu()
    kept_alike = torch.Generator().manual_seed(0)
    exact = [over_maximum(gradient_maps(x, made, made.draw(1, x.float(), kept_alike).double(), [0, 1])[0])
             for _ in range(5)]  # fmt: skip
    single = sample_maps(made.float(), x.float(), torch.tensor([0, 1]), 5, torch.Generator().manual_seed(0))
    assert torch.allclose(single.mean.double(), torch.stack(exact).mean(0), atol=1e-5)


def test_at_least_one_map():
    with pytest.raises(WsssZooError, match="at least 1, got 0"):
        sample_maps(head(), features(1), torch.tensor([0]), 0)
