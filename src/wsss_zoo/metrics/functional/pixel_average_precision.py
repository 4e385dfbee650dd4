"""PxAP: how well maps rank pixels, without choosing a threshold.

Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020, section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Bins over [0, 1): scores that fall into the same thousandth are not told apart (as in the paper's code).
SCORE_BINS = 1000


def score_histogram(
    maps: Tensor, classes: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255
) -> Tensor:
    """Count the pixels of one image by class, membership and score, for the classes present in it.

    A class is present where the ground truth has a pixel of it. One that is present but has no map gets
    score 0 everywhere, so missing it costs recall.

    Args:
        maps: float `(K, H, W)` in [0, 1]; values outside are clipped.
        classes: integers `(K,)`, 0-based foreground classes.
        target: integers `(H, W)`, 0 background, 1..num_classes, or `ignore_index`.
        num_classes: number of foreground classes C.
        ignore_index: pixels of this true label are left out.

    Returns:
        int64 `(C, 2, SCORE_BINS + 1)`; second index 1: the pixel is of the class, 0: it is not. The last
        bin holds a score of exactly 1.
    """
    bins = SCORE_BINS + 1
    # Ignored pixels are counted as a third membership that is dropped: cheaper than selecting the rest.
    ignored = target == ignore_index
    true = torch.where(ignored, num_classes + 1, target.long())
    pixels = torch.bincount(true.flatten(), minlength=num_classes + 2)[: num_classes + 1]
    histogram = torch.zeros(num_classes, 2, bins, dtype=torch.int64, device=target.device)
    present = (pixels[1:] > 0).nonzero().flatten().tolist()
    plane_of = {class_index: plane for plane, class_index in enumerate(classes.tolist())}
    for class_index in present:
        if class_index not in plane_of:
            histogram[class_index, 1, 0] = pixels[class_index + 1]
            histogram[class_index, 0, 0] = pixels.sum() - pixels[class_index + 1]
            continue
        level = (maps[plane_of[class_index]] * SCORE_BINS).clamp(0, SCORE_BINS).long()
        member = torch.where(ignored, 2, (true == class_index + 1).long())
        counts = torch.bincount((member * bins + level).flatten(), minlength=3 * bins)
        histogram[class_index] = counts.reshape(3, bins)[:2]
    return histogram


def pixel_average_precision(histogram: Tensor) -> Tensor:
    """Pixel average precision of each class: the sum over score levels of precision times gained recall.

    Args:
        histogram: int64 `(C, 2, bins)` from `score_histogram`, summed over images.

    Returns:
        float64 `(C,)` in [0, 1]; NaN for a class without pixels in the ground truth.
    """
    from_the_top = histogram.flip(-1).cumsum(-1).double()
    true_positive, false_positive = from_the_top[:, 1], from_the_top[:, 0]
    predicted = true_positive + false_positive
    precision = torch.where(predicted > 0, true_positive / predicted, 0.0)
    gained_recall = histogram[:, 1].flip(-1) / true_positive[:, -1:]
    return (precision * gained_recall).sum(-1)
