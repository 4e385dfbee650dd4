"""The permutohedral lattice's geometry: scales of the features, and vertices packed into one integer.

Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.
A feature of d dimensions is lifted onto the plane of d+1 coordinates that sum to 0; the vertices of the
lattice are the points of that plane whose coordinates are whole and congruent modulo d+1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError


class Geometry(NamedTuple):
    """Numbers that turn features into packed vertices.

    A vertex is named by its first d coordinates (the last follows from their sum), read as the digits of
    one number with a place value for each. So a step in the lattice adds a constant to the number.

    Attributes:
        scales: float32 `(d,)`, multiply the features before lifting, so that the lattice's blur has the
            standard deviation 1 of the features (Adams et al., section 3).
        smallest: int64 `(d,)`, subtracted from the coordinates so that digits are not negative.
        places: int64 `(d,)`, place values.
        steps: int64 `(d + 1,)`: adding `steps[i]` moves by +1 in all coordinates and by -(d+1) in the
            i-th, which is both the way along an edge of a simplex and minus one direction of the blur.
        volume: number of names; those of vertices and of all their neighbours lie in 0..volume-1.
    """

    scales: npt.NDArray[np.float32]
    smallest: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    volume: int


def lattice_geometry(largest: Sequence[float]) -> Geometry:
    """Geometry of the lattice over features in [0, largest].

    Args:
        largest: largest value of each of the d features, in standard deviations.

    Raises:
        DataError: the kernels are so narrow that vertices have no 63-bit name.
    """
    d = len(largest)
    ranks = np.arange(1, d + 1)
    # Standard deviation of the blur (1/2, 1, 1/2) along all d+1 directions: sqrt(2/3) (d+1). Single precision
    # as in the authors' code: the last bit decides on which side of an edge a pixel falls.
    deviation = np.float32(np.sqrt(2 / 3) * (d + 1))
    scales = (1 / np.sqrt(ranks * (ranks + 1)) * np.float64(deviation)).astype(np.float32)
    scaled = np.asarray(largest, dtype=np.float64) * scales
    # Coordinate j of a lifted feature f is f_(j+1) + ... + f_d - j f_j (scaled); j = 0 has no last term
    lowest = np.concatenate([[0.0], -ranks * scaled])
    highest = np.concatenate([np.cumsum(scaled[::-1])[::-1], [0.0]])
    # A vertex of the simplex around a point is at most d away in each coordinate, its neighbours 2 d
    margin = 2 * d + 2
    smallest = np.floor(lowest[:d]) - margin
    digits = np.ceil(highest[:d]) + margin - smallest + 1
    if np.prod(digits) >= 2.0**62:
        raise DataError(
            f"dense CRF: the kernels are too narrow for this image, which is {max(largest):.0f} standard "
            "deviations wide; raise sxy or srgb, or lower scale_factor."
        )
    places = np.concatenate([[1], np.cumprod(digits[:-1])]).astype(np.int64)
    steps = places.sum() - np.append((d + 1) * places, 0)
    return Geometry(scales, smallest.astype(np.int64), places, steps, int(np.prod(digits)))


def blur_gain(d: int) -> float:
    """Factor of the filtered values, `1 / (1 + 2^-d)`, as in the CRF code of Krähenbühl & Koltun."""
    return 1 / (1 + 2.0**-d)
