"""Where a saliency map is wrong: its error as a function of the distance from the edge of the object."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from wsss_zoo.errors import DataError


def error_by_distance(preds: Tensor, target: Tensor, max_distance: int = 50) -> tuple[Tensor, Tensor]:
    """Sum the absolute error over the pixels of one image by their distance from the edge.

    The distance is the Euclidean one from the centre of a pixel to that of the nearest pixel on the other
    side of the edge, so it is 1 for pixels that touch the edge. Those between d - 1 and d belong to d. Inside
    the object it counts as positive, outside as negative. Wei et al. (CVPR 2020) motivate label decoupling
    with this plot; it needs no threshold for the prediction.

    Args:
        preds: float `(H, W)` in [0, 1].
        target: the mask `(H, W)`: bool, or in [0, 1]; the object is where it exceeds one half, the error is
            measured against that.
        max_distance: D, in pixels; what lies further away is left out.

    Returns:
        The summed error, float64 `(2 D,)`, and the number of pixels, int64 `(2 D,)`, at the distances -D..-1
        and 1..D; on the CPU. All zero for a mask without object or without background, which has no edge.

    Raises:
        DataError: sizes differ, values are not finite or outside [0, 1], or `max_distance` is below 1.
    """
    _validate(preds, target, max_distance)
    inside = (target.float() > 0.5).cpu()
    totals = torch.zeros(2 * max_distance, dtype=torch.float64)
    pixels = torch.zeros(2 * max_distance, dtype=torch.int64)
    if inside.any() and not inside.all():
        mask = inside.numpy()
        distance = np.ceil(distance_transform_edt(mask) + distance_transform_edt(~mask)).astype(np.int64)
        # index 0 is the distance -D, D - 1 is -1, D is 1: there is no distance 0
        index = torch.from_numpy(np.where(mask, max_distance - 1 + distance, max_distance - distance))
        near = torch.from_numpy(distance <= max_distance)
        error = (preds.detach().cpu().double() - inside.double()).abs()
        totals += torch.bincount(index[near], error[near], minlength=2 * max_distance)
        pixels += torch.bincount(index[near], minlength=2 * max_distance)
    return totals, pixels


def _validate(preds: Tensor, target: Tensor, max_distance: int) -> None:
    if max_distance < 1:
        raise DataError(f"max_distance is at least 1 pixel, got {max_distance}.")
    if preds.ndim != 2 or preds.shape != target.shape:
        raise DataError(
            f"expected a prediction and a mask of one size (H, W), got {tuple(preds.shape)} and "
            f"{tuple(target.shape)}; resize the prediction to the mask."
        )
    for name, values in (("prediction", preds), ("mask", target)):
        low, high = (float(value) for value in torch.aminmax(values.detach().float()))
        if not (low >= 0 and high <= 1):  # written this way round so that NaN is refused, too
            raise DataError(f"the {name} lies in [0, 1], got values from {low:g} to {high:g}.")
