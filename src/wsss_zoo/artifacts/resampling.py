"""Bilinear resampling of maps in numpy and scipy, so that reading them does not need torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.linalg import solveh_banded
from scipy.sparse import csr_array


def resample_bilinear(maps: npt.NDArray[np.floating], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Sample maps at the pixel centres of another grid over the same area.

    The same numbers as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``: no
    smoothing when the grid gets coarser, values at the border repeat outwards.

    Args:
        maps: float `(K, h, w)`.
        size: `(H, W)` of the result.

    Returns:
        float32 `(K, H, W)`.
    """
    maps = maps.astype(np.float32, copy=False)
    for axis, length in zip((1, 2), size, strict=True):
        lower, upper, fraction = _taps(maps.shape[axis], length)
        fraction = fraction[:, None] if axis == 1 else fraction
        low = np.take(maps, lower, axis=axis)
        maps = low + fraction * (np.take(maps, upper, axis=axis) - low)
    return maps


def reduce_bilinear(maps: npt.NDArray[np.floating], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Find the small maps that come closest to `maps` once `resample_bilinear` enlarges them again.

    Least squares over all pixels. Values can leave the range of `maps` a little at sharp edges.

    Args:
        maps: float `(K, H, W)`.
        size: `(h, w)` of the result, not larger than `(H, W)`.

    Returns:
        float32 `(K, h, w)`.
    """
    maps = maps.astype(np.float32, copy=False)
    for axis, length in zip((1, 2), size, strict=True):
        if length == 1:
            maps = maps.mean(axis=axis, keepdims=True)
            continue
        full = maps.shape[axis]
        lower, upper, fraction = _taps(length, full)
        rows = np.arange(full)
        enlarge = csr_array(
            (np.concatenate([1 - fraction, fraction]), (np.tile(rows, 2), np.concatenate([lower, upper]))),
            shape=(full, length),
        )
        # A pixel lies between two neighbours, so the normal equations are tridiagonal.
        normal = enlarge.T @ enlarge
        bands = np.stack([np.append(0, normal.diagonal(1)), normal.diagonal()])
        columns = np.moveaxis(maps, axis, 0)
        solved = solveh_banded(bands, enlarge.T @ columns.reshape(full, -1))
        maps = np.moveaxis(solved.reshape(length, *columns.shape[1:]), 0, axis)
    return np.ascontiguousarray(maps, dtype=np.float32)


def _taps(
    source: int, target: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Neighbours and the weight of the upper one, for each of `target` positions on `source` pixels."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    lower = np.floor(position).astype(np.intp)
    upper = np.minimum(lower + 1, source - 1)
    return lower, upper, (position - lower).astype(np.float32)
