"""Bilinear resampling in numpy, so that reading maps does not need torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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


def _taps(
    source: int, target: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Neighbours and the weight of the upper one, for each of `target` positions on `source` pixels."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    lower = np.floor(position).astype(np.intp)
    upper = np.minimum(lower + 1, source - 1)
    return lower, upper, (position - lower).astype(np.float32)
