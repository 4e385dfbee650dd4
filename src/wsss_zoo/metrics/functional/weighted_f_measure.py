"""Weighted F-measure (Margolin et al., "How to Evaluate Foreground Maps?", CVPR 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import correlate1d, distance_transform_edt
from torch import Tensor

from wsss_zoo.metrics.functional.saliency_histogram import LEVELS, SaliencyHistogram
from wsss_zoo.metrics.functional.saliency_pairs import SaliencyBatch

EPS = np.finfo(np.float64).eps
_RADIUS, _SIGMA = 3, 5.0  # of the 7 x 7 Gaussian, which is the product of two of one dimension
_GAUSSIAN = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2 * _SIGMA**2))
_GAUSSIAN /= _GAUSSIAN.sum()
_DECAY = np.log(0.5) / 5  # the extra weight of a false alarm halves every 5 pixels

Image = npt.NDArray[np.float64]


def weighted_f_measure(
    batches: Sequence[SaliencyBatch],
    histogram: SaliencyHistogram,
    beta2: float = 1.0,
    threads: int | None = None,
) -> Tensor:
    """F-measure in which an error weighs less beside correct object pixels and more far from the object.

    It rests on an exact distance transform, so it is done on the CPU wherever the maps are.

    Args:
        batches: maps and masks.
        histogram: of the same images in the same order; tells the values of the levels.
        beta2: weight of the recall.
        threads: images done at a time; default: `torch.get_num_threads()`.

    Returns:
        float64 `(B,)` on the device of the histogram; 0 for images without object.
    """
    levels, masks = ([image.cpu().numpy() for batch in batches for image in batch[i]] for i in (0, 1))
    values = list(histogram.values.cpu().numpy())
    betas = [beta2] * len(values)
    threads = min(threads or torch.get_num_threads(), len(values))
    if threads == 1:
        scores = list(map(_weighted_f, levels, masks, values, betas))
    else:
        with ThreadPoolExecutor(threads) as pool:  # numpy and SciPy let go of the interpreter lock
            scores = list(pool.map(_weighted_f, levels, masks, values, betas))
    return torch.tensor(scores, dtype=torch.float64, device=histogram.values.device)


def _weighted_f(
    levels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], values: Image, beta2: float
) -> float:
    """Score one image `(H, W)`; `values` `(256,)` are those of the levels."""
    positive = int(np.count_nonzero(mask))
    if positive == 0:
        return 0.0
    error = np.concatenate([values, 1 - values]).take(levels + LEVELS * mask.astype(np.uint16))
    # Background without error does not count, wherever it is: the rest of an image is often much smaller.
    box = _surroundings(mask | (error > 0))
    error, mask = error[box], mask[box]
    # Where several object pixels are equally near, SciPy's choice is that of PySODMetrics.
    row, column = distance_transform_edt(~mask, return_distances=False, return_indices=True)
    missed = float(_forgiven(error, mask, row, column).sum())

    height, width = mask.shape
    # in place: fresh arrays of this size cost more than the arithmetic
    row -= np.arange(height, dtype=row.dtype)[:, None]
    column -= np.arange(width, dtype=column.dtype)
    row *= row
    column *= column
    row += column
    importance = np.sqrt(row)
    importance *= _DECAY
    np.subtract(2, np.exp(importance, out=importance), out=importance)
    importance *= error
    false_positive = float(importance.sum(where=~mask))

    true_positive = positive - missed
    recall = 1 - missed / positive
    precision = true_positive / (true_positive + false_positive + EPS)
    return float((1 + beta2) * recall * precision / (recall + beta2 * precision + EPS))


def _forgiven(
    error: Image, mask: npt.NDArray[np.bool_], row: npt.NDArray[np.int32], column: npt.NDArray[np.int32]
) -> Image:
    """Errors `(G,)` of the object pixels, each at most the mean error around it.

    Background pixels take part in that mean with the error of the nearest object pixel.
    """
    box = _surroundings(mask)
    smoothed = error.take(row[box] * error.shape[1] + column[box])
    for axis in (0, 1):
        smoothed = correlate1d(smoothed, _GAUSSIAN, axis, mode="constant")
    inside = mask[box]
    return np.minimum(error[box][inside], smoothed[inside])


def _surroundings(pixels: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that hold all `pixels` and what the Gaussian reaches from them."""
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(int(rows[0]) - _RADIUS, 0), int(rows[-1]) + _RADIUS + 1),
        slice(max(int(columns[0]) - _RADIUS, 0), int(columns[-1]) + _RADIUS + 1),
    )
