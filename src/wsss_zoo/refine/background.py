"""A background score beside the localization maps, and labels from scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError


def background_power(maps: npt.NDArray[np.float32], alpha: float) -> npt.NDArray[np.float32]:
    """Background score `(1 - max over classes)^alpha` (Ahn & Kwak, PSA, CVPR 2018, equation 2).

    Args:
        maps: float32 `(K, H, W)` in [0, 1]; values outside by rounding are clipped. K = 0 gives 1.
        alpha: a large alpha makes background weak, a small one strong; above 0.

    Returns:
        float32 `(H, W)` in [0, 1].

    Raises:
        DataError: `alpha` is not above 0.
    """
    if not alpha > 0:
        raise DataError(f"background power: alpha must be above 0, got {alpha}.")
    strongest = maps.max(axis=0, initial=0.0)
    return np.power(1 - np.clip(strongest, 0, 1), np.float32(alpha), dtype=np.float32)


def background_threshold(maps: npt.NDArray[np.float32], threshold: float) -> npt.NDArray[np.float32]:
    """Constant background score.

    Args:
        maps: float32 `(K, H, W)`; only its size is used.
        threshold: in [0, 1].

    Returns:
        float32 `(H, W)`, `threshold` everywhere.

    Raises:
        DataError: `threshold` is outside [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise DataError(f"background threshold lies in [0, 1], got {threshold}.")
    return np.full(maps.shape[1:], threshold, dtype=np.float32)


def labels_from_scores(
    scores: npt.NDArray[np.floating], classes: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint8]:
    """Label each pixel by its highest score; ties go to background, then to the smaller class.

    Args:
        scores: float `(K + 1, H, W)`, background first.
        classes: integers `(K,)`, 0-based foreground classes of the other planes, ascending.

    Returns:
        uint8 `(H, W)`: 0 background, class index + 1 otherwise.

    Raises:
        DataError: the number of planes does not fit the classes, or a label would exceed 254.
    """
    if len(scores) != len(classes) + 1:
        raise DataError(
            f"expected {len(classes) + 1} planes (background and {len(classes)} classes), got {len(scores)}."
        )
    if len(classes) and not 0 <= int(np.min(classes)) <= int(np.max(classes)) < 254:
        raise DataError(f"8-bit masks hold class indices 0..253, got {np.asarray(classes).tolist()}.")
    values = np.concatenate([[0], np.asarray(classes) + 1]).astype(np.uint8)
    return values[scores.argmax(axis=0)]
