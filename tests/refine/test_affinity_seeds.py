"""The two soft label sets of AffinityNet."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.artifacts import LocalizationMaps
from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine import AffinitySeeds, PseudoLabels

SIZE = (32, 40)


def scene():
    """A dark square; the map of class 7 is strong on its left half, that of class 2 weak on its right."""
    image = np.full((*SIZE, 3), 220, np.uint8)
    image[8:24, 10:30] = (60, 90, 40)
    full = np.full((2, *SIZE), 0.02, np.float32)
    full[0, 8:24, 20:30] = 0.3
    full[1, 8:24, 10:20] = 0.95
    return image, LocalizationMaps.from_full_size([2, 7], full, stride=1)


def test_without_a_crf_the_background_is_the_power():
    image, maps = scene()
    made = AffinitySeeds(low=4, high=24, crf=None)(image, maps=maps)
    strongest = maps.full_size().max(0)
    for kind, alpha in (("scores_low", 4), ("scores_high", 24)):
        scores = made[kind].full_size()
        np.testing.assert_array_equal(made[kind].classes, [2, 7])
        # kept in 8 bits
        np.testing.assert_allclose(scores[0], (1 - strongest) ** alpha, atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(scores[1:], maps.full_size(), atol=0.5 / 255 + 1e-6)


@given(st.integers(0, 2**32 - 1))
def test_weak_background_wins_only_where_strong_background_does(seed):
    full = np.random.default_rng(seed).random((2, 6, 8), dtype=np.float32)
    maps = LocalizationMaps.from_full_size([0, 3], full, stride=1)
    made = AffinitySeeds(crf=None)(np.zeros((6, 8, 3), np.uint8), maps=maps)
    low, high = (made[kind].full_size() for kind in ("scores_low", "scores_high"))
    assert (high[0] <= low[0]).all()
    assert (high[1:] == low[1:]).all()


def test_with_the_crf_low_is_what_pseudo_labels_with_that_power_are():
    image, maps = scene()
    made = AffinitySeeds(low=4, high=24, crf_args={"iterations": 4})(image, maps=maps)
    for kind, alpha in (("scores_low", 4), ("scores_high", 24)):
        expected = PseudoLabels(value=alpha, crf_args={"iterations": 4})(image, maps)
        labels = np.array([0, 3, 8])[made[kind].full_size().argmax(0)]
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_allclose(made[kind].full_size().sum(0), 1, atol=3 / 255)
    np.testing.assert_array_equal(
        made["masks"], PseudoLabels(value=4, crf_args={"iterations": 4})(image, maps)
    )
    # the weak class survives only against the weak background
    assert not (made["masks"] == 3).any()
    assert made["scores_high"].full_size()[1, 16, 25] > 0.9
    assert made["masks"][16, 15] == 8


def test_images_without_a_class_are_background():
    image, _ = scene()
    empty = LocalizationMaps.from_full_size([], np.zeros((0, *SIZE), np.float32))
    made = AffinitySeeds()(image, maps=empty)
    assert not made["masks"].any()
    assert (made["scores_low"].full_size() == 1).all()
    assert made["scores_high"].full_size().shape == (1, *SIZE)


def test_what_is_made_is_declared_and_processes_can_make_it():
    image, maps = scene()
    seeds = pickle.loads(pickle.dumps(AffinitySeeds(low=3, high=9, crf=None)))
    assert (seeds.low, seeds.high) == (3, 9)
    assert tuple(seeds(image, maps=maps)) == AffinitySeeds.outputs


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0}, "0 < low <= high, got low=0"),
        ({"low": 8, "high": 4}, "low=8, high=4"),
        ({"crf": "pza"}, "did you mean 'psa'"),
        ({"crf": None, "crf_args": {"iterations": 1}}, "crf is null"),
        ({"crf_args": {"iteration": 1}}, "did you mean 'iterations'"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(RecipeError, match=message):
        AffinitySeeds(**settings)


def test_maps_of_another_image():
    _, maps = scene()
    with pytest.raises(DataError, match="20 x 40"):
        AffinitySeeds()(np.zeros((20, 40, 3), np.uint8), maps=maps)
