"""The stochastic classifier: without expansion and with it, gradients, the selection, and what it drops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from wsss_zoo.errors import WsssZooError
from wsss_zoo.methods.ficklenet.expansion import expand, expanded_score_maps, expanded_selection
from wsss_zoo.methods.ficklenet.head import FickleHead

#: Everything a head can be: what is dropped, with and without shared channels, rescaled or not.
KINDS = [
    {"selection": selection, "share_channels": shared, "rescale": rescale}
    for selection, shared in (("centre_preserving", True), ("centre_preserving", False), ("general", True))
    for rescale in (True, False)
]


def head(channels=6, classes=4, kernel=5, p=0.7, **settings):
    torch.manual_seed(0)
    made = FickleHead(channels, classes, kernel, p, **settings).double()
    nn.init.normal_(made.bias)
    return made


def features(batch=2, channels=6, height=7, width=4):
    return torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)


def windows_one_by_one(x, made, selection):
    """Score maps by loops; `selection`: factors `(B, 1 or D, s h, s w)` of the expanded map."""
    batch, _, height, width = x.shape
    side, radius = made.kernel, made.kernel // 2
    scores = torch.zeros(batch, len(made.bias), height, width, dtype=x.dtype)
    for row in range(height):
        for column in range(width):
            scores[:, :, row, column] = made.bias
            for i in range(side):
                for j in range(side):
                    y, z = row + i - radius, column + j - radius
                    if 0 <= y < height and 0 <= z < width:
                        factor = selection[:, :, side * row + i, side * column + j]
                        scores[:, :, row, column] += (x[:, :, y, z] * factor) @ made.weight[:, :, i, j].T
    return scores


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_gradients_are_those_of_the_expanded_map(kind):
    made, x = head(**kind), features()
    kept = made.draw(2, x)
    published = expanded_score_maps(x, made, kept)
    ours = made.scores(x, kept)
    assert torch.allclose(ours, published.mean((2, 3)), atol=1e-12, rtol=0)
    assert torch.allclose(made.score_maps(x, kept), published, atol=1e-12, rtol=0)
    wanted = (x, made.weight, made.bias)
    target = torch.randn_like(ours)
    expected = torch.autograd.grad((published.mean((2, 3)) * target).sum(), wanted)
    for gradient, other in zip(torch.autograd.grad((ours * target).sum(), wanted), expected, strict=True):
        assert torch.allclose(gradient, other, atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([1, 3, 5, 7, 9]),
    st.sampled_from([0.0, 0.3, 0.9]),
)
def test_every_size_even_smaller_than_a_window(seed, height, width, kernel, p):
    made = head(3, 2, kernel, p)
    torch.manual_seed(seed)
    x = torch.randn(1, 3, height, width, dtype=torch.float64)
    kept = made.draw(1, x)
    published = expanded_score_maps(x, made, kept).mean((2, 3))
    assert torch.allclose(made.scores(x, kept), published, atol=1e-12, rtol=0)


@pytest.mark.parametrize("shared", [True, False])
def test_the_expansion_is_what_a_loop_over_windows_computes(shared):
    made = head(3, 2, 3, 0.5, share_channels=shared)
    x = features(2, 3, 4, 5).detach()
    kept = made.draw(2, x)
    selection = expanded_selection(kept, made, x)
    assert torch.allclose(
        expanded_score_maps(x, made, kept), windows_one_by_one(x, made, selection), atol=1e-12
    )


def test_blocks_of_the_expanded_map_are_windows():
    x = torch.arange(20.0).view(1, 1, 4, 5)
    expanded = expand(x, 3)
    padded = F.pad(x, (1, 1, 1, 1))
    for row in range(4):
        for column in range(5):
            block = expanded[0, 0, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
            assert torch.equal(block, padded[0, 0, row : row + 3, column : column + 3])


@pytest.mark.parametrize("kind", KINDS)
def test_without_dropping_it_is_a_convolution(kind):
    made, x = head(p=0.0, **kind), features()
    convolved = F.conv2d(x, made.weight, made.bias, padding=2)
    assert torch.allclose(made(x), convolved.mean((2, 3)), atol=1e-12)
    assert torch.allclose(made.score_maps(x, None), convolved, atol=1e-12)
    assert torch.allclose(made.scores(x, made.draw(2, x)), convolved.mean((2, 3)), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_not_stochastic_is_the_expectation_over_selections(kind):
    made, x = head(p=0.4, **kind), features(1).detach()
    expected = made(x, stochastic=False)
    assert torch.allclose(made.score_maps(x, None).mean((2, 3)), expected, atol=1e-12)
    draws = made.scores(x.expand(4000, -1, -1, -1), made.draw(4000, x))
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - expected[0]).abs() < 4.5 * error).all()
    if kind["rescale"]:
        convolved = F.conv2d(x, made.weight, made.bias, padding=2).mean((2, 3))
        assert torch.allclose(expected, convolved, atol=1e-12)


def test_gradcheck():
    made, x = head(2, 2, 3, 0.5), features(1, 2, 3, 4)
    kept = made.draw(1, x)
    assert torch.autograd.gradcheck(lambda x: made.scores(x, kept), x)


@pytest.mark.parametrize("shared", [True, False])
def test_the_centre_is_always_kept_and_the_rest_dropped_with_p(shared):
    made, x = head(kernel=3, p=0.9, share_channels=shared), features(1, 6, 20, 20)
    kept = made.draw(20, x).unflatten(2, (9, -1))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert kept[:, :, 4].min() == 1
    others = kept[:, :, [0, 1, 2, 3, 5, 6, 7, 8]]
    deviation = (0.9 * 0.1 / others.numel()) ** 0.5
    assert abs(others.mean().item() - 0.1) < 4.5 * deviation
    per_offset = others.mean((0, 1, 3))
    assert (per_offset - 0.1).abs().max() < 5 * (0.09 * 8 / others.numel()) ** 0.5


def test_units_are_dropped_independently():
    made, x = head(kernel=3, p=0.5), features(1, 6, 20, 20)
    kept = made.draw(200, x)[:, :, [0, 1, 2, 3, 5, 6, 7, 8]] - 0.5
    # neighbouring offsets, neighbouring cells, neighbouring samples
    for first, second in (
        (kept[:, :, :-1], kept[:, :, 1:]),
        (kept[:, :-1], kept[:, 1:]),
        (kept[:-1], kept[1:]),
    ):
        correlation = (first * second).mean() / 0.25
        assert abs(correlation.item()) < 4.5 / first.numel() ** 0.5
    general = head(selection="general", p=0.5).draw(1, x)
    assert general.shape == (1, 400, 6)
    assert 0.4 < general.mean() < 0.6
    assert (general.amin(2) != general.amax(2)).any()


def test_selections_of_windows_images_and_passes_differ():
    made, x = head(), features(2)
    kept = made.draw(2, x)
    windows = expanded_selection(kept, made, x).unflatten(2, (7, 5)).unflatten(4, (4, 5))
    assert not torch.equal(windows[:, :, 3, :, 1], windows[:, :, 3, :, 2])
    assert not torch.equal(kept[0], kept[1])
    assert not torch.equal(made(x), made(x))


def test_a_generator_fixes_the_selection_and_leaves_the_global_one_alone():
    made, x = head(), features(2)
    before = torch.random.get_rng_state()
    first = made(x, torch.Generator().manual_seed(5))
    assert torch.equal(first, made(x, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, made(x, torch.Generator().manual_seed(6)))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_first_selections_do_not_depend_on_how_many_are_drawn():
    made, x = head(), features(1)
    generator = torch.Generator().manual_seed(5)
    parts = torch.cat([made.draw(count, x, generator) for count in (3, 1, 2)])
    assert torch.equal(parts, made.draw(6, x, torch.Generator().manual_seed(5)))


def test_training_and_evaluation_mode_make_no_difference():
    made, x = head(), features(2)
    scores = [made.train(mode)(x, torch.Generator().manual_seed(5)) for mode in (True, False)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_are_in_float32_under_mixed_precision(dtype):
    made = FickleHead(16, 3, 5, 0.9)
    x = torch.randn(2, 16, 9, 9).to(dtype)
    kept = made.draw(2, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = made.scores(x, kept)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, made.scores(x.float(), kept))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 4}, "kernel is odd"),
        ({"p": 1.0}, r"\[0, 1\)"),
        ({"p": -0.1}, r"\[0, 1\)"),
        ({"selection": "generel"}, "did you mean 'general'"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(WsssZooError, match=message):
        FickleHead(2, 2, **change)
