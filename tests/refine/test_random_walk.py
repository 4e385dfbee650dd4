"""The walk against published numbers, against powers of the dense matrix, and what holds of any walk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine import PixelPairs, RandomWalk, affinity_matrix
from wsss_zoo.refine.random_walk import transitions

PARITY = Path(__file__).parents[1] / "parity"
CASES = {"psa": (8, 8), "seam": (8, 6)}


@pytest.fixture(scope="module")
def arrays():
    with np.load(PARITY / "psa_random_walk.npz", allow_pickle=False) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def dense_walk(affinities, scores, beta, log_t, radius):
    """The definition: the dense matrix, squared `log_t` times."""
    pairs = PixelPairs(*scores.shape[1:], radius)
    transition = affinity_matrix(affinities, pairs) ** beta
    transition = transition / transition.sum(0)
    for _ in range(log_t):
        transition = transition @ transition
    return (scores.flatten(1) @ transition).view_as(scores)


@pytest.mark.parametrize("case", CASES)
def test_published_walk(arrays, case):
    pooled, expected = arrays[f"{case}_cam_pooled_present"], arrays[f"{case}_cam_rw_present"]
    walked = RandomWalk(*CASES[case])(arrays["affinity_pairs"], pooled)
    enlarged = F.interpolate(walked[None], scale_factor=8, mode="bilinear", align_corners=False)[0]
    enlarged = enlarged[:, : expected.shape[1], : expected.shape[2]]
    scale = expected.amax((1, 2), keepdim=True)
    assert ((enlarged - expected).abs() <= 1e-4 * scale).all()
    # all other planes are zero, so the winner among these is the published label map
    labels = torch.tensor([0, 3, 15], dtype=torch.uint8)[enlarged.argmax(0)][:85, :101]
    assert torch.equal(labels, arrays[f"{case}_argmax"])


@pytest.mark.parametrize("case", CASES)
def test_published_transition_matrix(arrays, case):
    expected = arrays[f"{case}_trans_mat_sub"]
    cells = torch.eye(11 * 13).view(-1, 11, 13)[::4]  # a plane for each row that is stored
    walked = RandomWalk(*CASES[case])(arrays["affinity_pairs"], cells).flatten(1)
    torch.testing.assert_close(walked, expected, rtol=1e-4, atol=1e-6)


@st.composite
def walks(draw):
    radius = draw(st.integers(1, 5))
    height = radius + draw(st.integers(0, 5))
    width = 2 * radius - 1 + draw(st.integers(0, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pairs = PixelPairs(height, width, radius)
    affinities = torch.from_numpy(rng.random((len(pairs.offsets), pairs.sources)))
    scores = torch.from_numpy(rng.random((3, height, width)))
    return RandomWalk(draw(st.floats(0.5, 10)), draw(st.integers(0, 8)), radius), affinities, scores


@given(walks())
def test_walk_is_the_power_of_the_dense_matrix(drawn):
    walk, affinities, scores = drawn
    expected = dense_walk(affinities, scores, walk.beta, walk.log_t, walk.radius)
    torch.testing.assert_close(walk(affinities, scores), expected, rtol=1e-9, atol=0)


@given(walks())
def test_columns_of_the_matrix_sum_to_one(drawn):
    walk, affinities, scores = drawn
    neighbours, weights = transitions(affinities, PixelPairs(*scores.shape[1:], walk.radius), walk.beta)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(weights), dtype=weights.dtype))
    assert ((neighbours >= 0) & (neighbours < len(neighbours))).all()


@given(walks(), st.floats(-5, 5))
def test_constant_planes_stay_constant(drawn, value):
    walk, affinities, scores = drawn
    constant = torch.full_like(scores, value)
    torch.testing.assert_close(walk(affinities, constant), constant, rtol=1e-12, atol=1e-12)


@given(walks())
def test_walk_keeps_the_range_and_the_weighted_sum(drawn):
    walk, affinities, scores = drawn
    walked = walk(affinities, scores)
    low, high = scores.amin((1, 2)), scores.amax((1, 2))
    assert (walked.amin((1, 2)) >= low - 1e-12).all()
    assert (walked.amax((1, 2)) <= high + 1e-12).all()
    # a symmetric matrix normalised by its sums conserves the sum that is weighted with them
    pairs = PixelPairs(*scores.shape[1:], walk.radius)
    sums = (affinity_matrix(affinities, pairs) ** walk.beta).sum(0)
    before, after = scores.flatten(1) @ sums, walked.flatten(1) @ sums
    torch.testing.assert_close(after, before, rtol=1e-10, atol=0)


def test_zero_planes_stay_zero_and_change_nothing():
    torch.manual_seed(0)
    affinities, scores = torch.rand(34, 7 * 6), torch.rand(3, 11, 14)
    stack = torch.zeros(21, 11, 14)
    stack[[0, 4, 17]] = scores
    walked = RandomWalk()(affinities, stack)
    assert torch.equal(walked[[0, 4, 17]], RandomWalk()(affinities, scores))
    assert (walked.flatten(1).any(1).nonzero().flatten() == torch.tensor([0, 4, 17])).all()
    assert not RandomWalk()(affinities, torch.zeros(2, 11, 14)).any()


def test_scores_stay_on_their_side_of_a_border_without_affinity():
    pairs = PixelPairs(8, 12, 3)
    left = torch.zeros(8, 12, dtype=torch.float64)
    left[:, :6] = 1
    source = pairs.at_sources(left)
    affinities = torch.stack(
        [(pairs.at_destinations(left, offset) == source).flatten().double() for offset in pairs.offsets]
    )
    seed = torch.zeros(1, 8, 12, dtype=torch.float64)
    seed[0, 3, 4] = 1
    walked = RandomWalk(log_t=8, radius=3)(affinities, seed)[0]
    assert not walked[:, 6:].any()
    # after many steps a cell has seen all of its side; the two lowest rows are only destinations
    inner = walked[:, 2:6]
    assert inner.min() > 0.9 * inner.max() > 0


def test_types_and_gradients_follow_the_affinities():
    affinities = torch.rand(34, 42, dtype=torch.float64, requires_grad=True)
    walked = RandomWalk(log_t=2)(affinities, torch.rand(2, 11, 14))
    assert walked.dtype == torch.float64
    walked.square().sum().backward()
    assert affinities.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 0}, "beta.*above 0, got 0"),
        ({"log_t": -1}, "log_t is a whole number from 0, got -1"),
        ({"log_t": 2.5}, r"log_t .* got 2\.5"),
        ({"radius": 0}, "radius is a whole number from 1"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(RecipeError, match=message):
        RandomWalk(**settings)


def test_affinities_of_another_grid():
    with pytest.raises(DataError, match=r"11 x 14 cells has 34 offsets and 42 sources .* got .*\(34, 35\)"):
        RandomWalk()(torch.rand(34, 35), torch.rand(2, 11, 14))
    with pytest.raises(DataError, match=r"scores are \(planes, h, w\), got \(11, 14\)"):
        RandomWalk()(torch.rand(34, 42), torch.rand(11, 14))
