"""Which pairs there are, in which order: against the published index lists and against the definition."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import DataError
from wsss_zoo.refine.pixel_pairs import PixelPairs, affinity_matrix, fitting_radius

PARITY = Path(__file__).parents[1] / "parity"
SUMMARY = json.loads((PARITY / "psa_affinity_supervision.json").read_text())["indices"]


@pytest.fixture(scope="module")
def arrays():
    with np.load(PARITY / "psa_affinity_supervision.npz", allow_pickle=False) as file:
        return dict(file)


def test_published_offsets(arrays):
    assert PixelPairs(5, 9).offsets == tuple(map(tuple, arrays["offsets_r5_dy_dx"].tolist()))


@pytest.mark.parametrize("name", SUMMARY)
def test_published_indices(arrays, name):
    radius, height, width = map(int, name.removeprefix("r").replace("_", "x").split("x"))
    pairs, facts = PixelPairs(height, width, radius), SUMMARY[name]
    sources, destinations = pairs.source_indices().numpy(), pairs.destination_indices().numpy()
    assert (pairs.sources, len(pairs.offsets)) == (facts["n_from"], facts["n_offsets"])
    assert destinations.size == facts["n_pairs"]
    assert zlib.crc32(sources.astype("<i8").tobytes()) == facts["from_crc32"]
    assert zlib.crc32(destinations.astype("<i8").tobytes()) == facts["to_crc32"]
    if f"{name}_from" in arrays:
        np.testing.assert_array_equal(sources, arrays[f"{name}_from"])
        np.testing.assert_array_equal(destinations.ravel(), arrays[f"{name}_to"])


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 6))
def test_pairs_are_close_once_and_inside(radius, more_rows, more_columns):
    pairs = PixelPairs(radius + more_rows, 2 * radius - 1 + more_columns, radius)
    sources, destinations = pairs.source_indices(), pairs.destination_indices()
    seen = set()
    for offset, row in zip(pairs.offsets, destinations.tolist(), strict=True):
        for source, destination in zip(sources.tolist(), row, strict=True):
            y, x = divmod(source, pairs.width)
            assert divmod(destination, pairs.width) == (y + offset[0], x + offset[1])
            assert 0 <= y + offset[0] < pairs.height
            assert 0 < offset[0] ** 2 + offset[1] ** 2 < radius**2
            seen.add(frozenset((source, destination)))
    assert len(seen) == destinations.numel()
    # with the mirrored offsets and the centre: all integer points of the open disc
    disc = [(y, x) for y in range(-9, 10) for x in range(-9, 10) if y * y + x * x < radius**2]
    assert 2 * len(pairs.offsets) + 1 == len(disc)


def test_blocks_are_views_that_agree_with_the_indices():
    pairs, grid = PixelPairs(8, 11, 3), torch.rand(2, 8, 11)
    assert torch.equal(pairs.at_sources(grid).flatten(1), grid.flatten(1)[:, pairs.source_indices()])
    for offset, indices in zip(pairs.offsets, pairs.destination_indices(), strict=True):
        block = pairs.at_destinations(grid, offset)
        assert block._base is grid
        assert torch.equal(block.flatten(1), grid.flatten(1)[:, indices])


def test_matrix_is_symmetric_with_the_affinities_at_their_pairs():
    pairs = PixelPairs(4, 5, 2)
    affinities = torch.arange(1.0, 4 * 9 + 1).view(4, 9) / 100
    matrix = affinity_matrix(affinities, pairs)
    assert torch.equal(matrix, matrix.T)
    assert torch.equal(matrix.diagonal(), torch.ones(20))
    assert int((matrix > 0).sum()) == 20 + 2 * affinities.numel()
    # offsets (0, 1), (1, -1), (1, 0), (1, 1); the second source is cell (0, 2)
    assert matrix[2, [3, 6, 7, 8]].tolist() == pytest.approx([0.02, 0.11, 0.20, 0.29])


@pytest.mark.parametrize(("height", "width", "radius"), [(4, 20, 5), (20, 8, 5), (1, 2, 2)])
def test_too_small_grids_are_refused(height, width, radius):
    with pytest.raises(DataError, match=f"radius {radius} needs a grid .* got {height} x {width}"):
        PixelPairs(height, width, radius)


def test_a_radius_is_positive():
    with pytest.raises(DataError, match="at least 1, got 0"):
        PixelPairs(9, 9, 0)


@given(st.integers(1, 40), st.integers(1, 40))
def test_seam_shrinks_the_radius_below_eleven_cells(height, width):
    side = min(height, width)
    published = (side - 1) // 2 if side < 11 else 5
    radius = fitting_radius(height, width, 5)
    assert radius == max(1, published)
    PixelPairs(height, width, radius)  # fits
