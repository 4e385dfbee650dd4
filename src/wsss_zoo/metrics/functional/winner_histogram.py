"""The confusion matrices of all background thresholds from one pass over an image.

At threshold t a pixel is labelled by the argmax over [t, maps], ties to the smaller index: background
where t >= the largest map value, else the class with that value, whatever t is. So it is enough to count
pixels by (true class, class with the largest value, number of thresholds below that value).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from wsss_zoo.errors import DataError


def winner_histogram(
    maps: Tensor,
    classes: Tensor,
    target: Tensor,
    thresholds: Tensor,
    num_classes: int,
    ignore_index: int = 255,
) -> Tensor:
    """Count pixels by true class, winning class and how many thresholds lie below the winning value.

    Args:
        maps: float32 `(K, H, W)`; classes without a map count as 0 everywhere.
        classes: integers `(K,)`, 0-based foreground classes, ascending.
        target: integers `(H, W)`, 0 background, 1..num_classes, or `ignore_index`.
        thresholds: float32 `(T,)`, ascending, none below 0 (a threshold below 0 would let classes
            without a map win). Values are compared in float32.
        num_classes: number of foreground classes C.
        ignore_index: pixels of this true label are left out.

    Returns:
        int64 `(C + 1, C, T + 1)`; entry `[g, c, n]`: pixels of true label g where class c has the largest
        value, and n of the thresholds are smaller than it.

    Raises:
        DataError: sizes differ, labels or classes out of range, or maps that are not finite.
    """
    _validate(maps, classes, target, num_classes, ignore_index)
    # Ignored pixels are counted in a row of their own that is dropped: cheaper than selecting the rest.
    true = torch.where(target == ignore_index, num_classes + 1, target.long()).flatten()
    bins = len(thresholds) + 1
    histogram = torch.zeros(num_classes + 2, num_classes, bins, dtype=torch.int64, device=target.device)
    if len(classes) == 0:
        # Without maps every pixel is background at every threshold: bin 0, of any class.
        histogram[:, 0, 0] = torch.bincount(true, minlength=num_classes + 2)
    else:
        value, winner = maps.flatten(1).max(dim=0)  # the first of equals
        # right=False: the number of thresholds strictly below the value; t == value is background.
        below = torch.bucketize(value, thresholds, right=False)
        shape = (num_classes + 2, len(classes), bins)
        counts = torch.bincount((true * shape[1] + winner) * bins + below, minlength=math.prod(shape))
        histogram[:, classes.long()] = counts.reshape(shape)
    return histogram[:-1]


def confusion_at_thresholds(histogram: Tensor) -> Tensor:
    """Turn a winner histogram into the confusion matrix of each threshold.

    Args:
        histogram: int64 `(C + 1, C, T + 1)` from `winner_histogram`, summed over images.

    Returns:
        int64 `(T, C + 1, C + 1)`; row = true label, column = predicted label, 0 = background.
    """
    # Class c is predicted at threshold i where more than i thresholds lie below its value.
    foreground = histogram[..., 1:].flip(-1).cumsum(-1).flip(-1)
    background = histogram.sum((1, 2))[:, None] - foreground.sum(1)
    return torch.cat([background[:, None], foreground], dim=1).permute(2, 0, 1)


def _validate(maps: Tensor, classes: Tensor, target: Tensor, num_classes: int, ignore_index: int) -> None:
    if maps.ndim != 3 or classes.shape != maps.shape[:1]:
        raise DataError(
            f"expected maps (K, H, W) and classes (K,), got {tuple(maps.shape)} and {tuple(classes.shape)}."
        )
    if maps.shape[1:] != target.shape:
        raise DataError(
            f"maps and ground truth differ in size: {tuple(maps.shape[1:])} and {tuple(target.shape)}. "
            "Bring the maps to the size of the original image first."
        )
    wrong = target[(target != ignore_index) & ((target < 0) | (target > num_classes))]
    if len(wrong):
        raise DataError(
            f"ground truth holds label {int(wrong[0])}, expected 0..{num_classes} or {ignore_index} (ignore)."
        )
    if len(classes) == 0:
        return
    ascending = bool((classes[1:] > classes[:-1]).all())
    if not ascending or int(classes[0]) < 0 or int(classes[-1]) >= num_classes:
        raise DataError(
            f"classes are 0-based foreground indices 0..{num_classes - 1} in ascending order, "
            f"got {classes.tolist()}."
        )
    # aminmax hands NaN on and is several times faster than isfinite on every value
    if not bool(torch.isfinite(torch.stack(torch.aminmax(maps))).all()):
        raise DataError("localization maps hold values that are not finite (NaN or infinity).")
