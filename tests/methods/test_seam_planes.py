"""SEAM's class planes and pixel correlation: by hand, by the equations, in blocks."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.methods.seam.correlation import correlate
from wsss_zoo.methods.seam.planes import clean_planes, normalise_planes, suppress_non_maximum, with_background

sizes = st.integers(1, 6)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain_correlation(maps, keys):
    """The equations, position by position."""
    batch, planes, height, width = maps.shape
    refined = torch.zeros_like(maps)
    for image in range(batch):
        values, vectors = maps[image].flatten(1), keys[image].flatten(1)
        unit = vectors / (vectors.square().sum(0).sqrt() + 1e-5)
        for j in range(height * width):
            similarity = (unit * unit[:, j : j + 1]).sum(0).clamp(min=0)
            refined[image].view(planes, -1)[:, j] = (values * similarity).sum(1) / (similarity.sum() + 1e-5)
    return refined


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), sizes, sizes, st.integers(1, 80))
def test_correlation_in_blocks_is_the_plain_one(batch, planes, channels, height, width, block):
    maps, keys = noise(batch, planes, height, width).abs(), noise(batch, channels, height, width, seed=1)
    expected = plain_correlation(maps, keys)
    assert torch.allclose(correlate(maps, keys), expected, rtol=1e-10, atol=1e-12)
    assert torch.allclose(correlate(maps, keys, block), expected, rtol=1e-10, atol=1e-12)


def test_gradient_of_the_correlation_does_not_depend_on_the_blocks():
    maps, keys = noise(2, 3, 4, 5).abs(), noise(2, 6, 4, 5, seed=1)
    weights, gradients = noise(2, 3, 4, 5, seed=2), []
    for compute in (plain_correlation, correlate, lambda a, k: correlate(a, k, block=2 * 20 * 7)):
        keys.requires_grad_(True).grad = None
        (compute(maps, keys) * weights).sum().backward()
        gradients.append(keys.grad.clone())
    assert gradients[0].abs().max() > 1e-3
    assert torch.allclose(gradients[1], gradients[0], rtol=1e-9)
    assert torch.allclose(gradients[2], gradients[0], rtol=1e-9)


def test_correlation_averages_over_what_looks_alike():
    # two kinds of positions with orthogonal keys, and one that resembles nothing
    keys = torch.tensor([[[[1.0, 3.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 2.0, 2.0, 0.0]]]])
    maps = torch.tensor([[[[1.0, 0.0, 0.0, 0.5, 1.0]]]])
    expected = torch.tensor([[[[0.5, 0.5, 0.25, 0.25, 0.0]]]])
    assert torch.allclose(correlate(maps, keys), expected, atol=1e-4)


def test_correlation_in_half_precision_is_computed_in_full():
    maps, keys = noise(1, 3, 4, 5, dtype=torch.float32).abs(), noise(1, 6, 4, 5, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = correlate(maps, keys)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, correlate(maps, keys))
    assert correlate(maps.bfloat16(), keys.bfloat16()).dtype == torch.float32


def test_planes_by_hand():
    maps = torch.tensor([[[[9.0, 9.0]], [[3.0, -1.0]], [[1.0, 5.0]]]])
    scaled = normalise_planes(maps)
    assert torch.allclose(scaled, torch.tensor([[[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]]]), atol=1e-4)
    assert scaled.max() < 1
    kept = suppress_non_maximum(maps)
    assert torch.equal(kept, torch.tensor([[[[9.0, 9.0]], [[3.0, 0.0]], [[0.0, 5.0]]]]))
    tie = torch.tensor([[[[0.0]], [[2.0]], [[2.0]], [[1.0]]]])
    assert suppress_non_maximum(tie).flatten().tolist() == [0, 2, 2, 0]
    assert torch.equal(with_background(maps)[:, 0], torch.tensor([[[-2.0, -4.0]]]))
    expected = torch.tensor([[[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]]])
    assert torch.allclose(clean_planes(maps), expected, atol=1e-4)


@given(sizes, sizes, st.integers(1, 4), st.floats(-3, 3))
def test_ranges(height, width, classes, shift):
    maps = noise(2, classes + 1, height, width, dtype=torch.float32) + shift
    scaled, cleaned = normalise_planes(maps), clean_planes(maps)
    for x in (scaled, cleaned):
        assert x.min() >= 0
        assert x.max() <= 1
    # at most one class a position, and the background is what it leaves
    assert ((cleaned[:, 1:] > 0).sum(1) <= 1).all()
    assert torch.equal(cleaned[:, 0], 1 - cleaned[:, 1:].amax(1))
