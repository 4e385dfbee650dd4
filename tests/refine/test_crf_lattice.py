"""The permutohedral lattice of both engines, against each other and against the Gaussian it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import DataError
from wsss_zoo.refine import DenseCRF
from wsss_zoo.refine.crf.geometry import blur_gain, lattice_geometry
from wsss_zoo.refine.crf.numba_lattice import appearance_lattice, smoothness_lattice
from wsss_zoo.refine.crf.torch_lattice import (
    build_lattice,
    colour_features,
    largest_features,
    position_features,
)

CPU = torch.device("cpu")


def filter_with(lattice, values):
    """Splat, blur and slice `(N, C)` in float64, in the order of the definition."""
    corners, count, _ = lattice.neighbours.shape
    at_vertices = np.zeros((count + 1, values.shape[1]))
    for corner in range(corners):
        weighted = lattice.weights[:, corner, None].astype(np.float64) * values
        np.add.at(at_vertices, lattice.vertices[:, corner], weighted)
    for direction in range(corners):
        sides = at_vertices[lattice.neighbours[direction]].sum(1)
        at_vertices[:count] = at_vertices[:count] + 0.5 * sides
    slices = [lattice.weights[:, c, None] * at_vertices[lattice.vertices[:, c]] for c in range(corners)]
    return np.sum(slices, axis=0)


def random_image(height, width, seed):
    rng = np.random.default_rng(seed)
    smooth = np.linspace(0, 200, height * width).reshape(height, width, 1)
    return (smooth + rng.integers(0, 56, (height, width, 3))).astype(np.uint8)


def torch_lattice(image, sxy, srgb, compat):
    size = [image.shape[:2]]
    picture = torch.from_numpy(image).permute(2, 0, 1)
    features = torch.cat([position_features(size, sxy, CPU), colour_features([picture], srgb, CPU)])
    pixels = [image.shape[0] * image.shape[1]]
    return build_lattice(features, largest_features(size, sxy, srgb), pixels, compat)


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.floats(0.3, 90),
    st.floats(0.7, 40),
    st.integers(0, 2**16),
)
def test_engines_build_the_same_lattice(height, width, sxy, srgb, seed):
    image = random_image(height, width, seed)
    ours = appearance_lattice(image, sxy, srgb, 10.0)
    theirs = torch_lattice(image, sxy, srgb, 10.0)
    assert ours.neighbours.shape[1] == theirs.neighbours.shape[1] - 1
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-5, atol=1e-6)
    # numbered differently, the same partition of corners: one number goes with one number
    pairs = np.stack([ours.vertices.ravel(), theirs.vertices.numpy().ravel()])
    assert len(np.unique(pairs, axis=1).T) == ours.neighbours.shape[1]
    values = np.random.default_rng(seed).random((height * width, 3)).astype(np.float32)
    filtered = theirs.filter(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(filter_with(ours, values), filtered, rtol=1e-4, atol=1e-5)


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.2, 80))
def test_normalised_filter_keeps_its_eigenvector(height, width, sxy):
    # n K n applied to 1/n gives n (K 1) = 1/n, with n the normaliser
    lattice = smoothness_lattice.__wrapped__(height, width, sxy, 1.0)
    barycentric = lattice.weights / lattice.weights.sum(1, keepdims=True)
    n = lattice.weights.sum(1) / np.sqrt(blur_gain(2))
    np.testing.assert_allclose(barycentric.sum(1), 1, rtol=1e-5)
    assert barycentric.min() > -1e-4
    np.testing.assert_allclose(filter_with(lattice, (1 / n)[:, None])[:, 0], 1 / n, rtol=1e-3)


@pytest.mark.parametrize("sxy", [2.0, 5.0])
def test_filter_is_nearly_gaussian(sxy):
    height, width = 40, 50
    lattice = smoothness_lattice.__wrapped__(height, width, sxy, 1.0)
    values = np.random.default_rng(0).random((height * width, 1))
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    kernel = np.exp(-((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (2 * sxy**2))
    n = 1 / np.sqrt(kernel.sum(1))
    exact = n * (kernel @ (n * values[:, 0]))
    assert np.abs(filter_with(lattice, values)[:, 0] - exact).max() < 0.05
    assert np.abs(filter_with(lattice, values)[:, 0] - exact).mean() < 0.01


def test_compat_scales_the_filter():
    image = random_image(9, 11, 0)
    values = np.random.default_rng(0).random((99, 2))
    once = filter_with(appearance_lattice(image, 5.0, 9.0, 1.0), values)
    np.testing.assert_allclose(
        filter_with(appearance_lattice(image, 5.0, 9.0, 7.0), values), 7 * once, rtol=1e-4
    )
    assert not filter_with(appearance_lattice(image, 5.0, 9.0, 0.0), values).any()


def test_smoothness_lattice_is_kept_for_a_size():
    assert smoothness_lattice(7, 9, 3.0, 3.0) is smoothness_lattice(7, 9, 3.0, 3.0)
    assert smoothness_lattice(7, 9, 3.0, 3.0) is not smoothness_lattice(9, 7, 3.0, 3.0)


def test_table_of_vertices_grows():
    # noise and narrow kernels: nearly every pixel has vertices of its own, more than the table begins with
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3)).astype(np.uint8)
    ours, theirs = appearance_lattice(image, 5.0, 2.0, 1.0), torch_lattice(image, 5.0, 2.0, 1.0)
    assert ours.neighbours.shape[1] == theirs.neighbours.shape[1] - 1 > 2**15
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-5, atol=1e-6)
    pairs = np.stack([ours.vertices.ravel(), theirs.vertices.numpy().ravel()])
    assert len(np.unique(pairs, axis=1).T) == ours.neighbours.shape[1]


def test_names_of_all_vertices_and_neighbours_are_in_range():
    geometry = lattice_geometry([6.0, 4.0])
    assert geometry.volume == int(geometry.places[-1]) * (geometry.volume // int(geometry.places[-1]))
    # a step in each direction ends where it began
    assert geometry.steps.sum() == 0


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_kernels_too_narrow_are_refused(backend):
    image, scores = torch.zeros(3, 40, 50, dtype=torch.uint8), torch.rand(2, 40, 50)
    with pytest.raises(
        DataError, match=r"too narrow for this image, which is 255000 standard deviations wide"
    ):
        DenseCRF(backend=backend, srgb=1e-3)([image], [scores])
