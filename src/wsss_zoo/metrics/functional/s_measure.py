"""Structure measure (Fan et al., "Structure-measure: A New Way to Evaluate Foreground Maps", ICCV 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from wsss_zoo.metrics.functional.saliency_histogram import SaliencyHistogram

EPS = torch.finfo(torch.float64).eps


def s_measure(histogram: SaliencyHistogram, alpha: float = 0.5) -> Tensor:
    """Weigh how the map treats object and background as wholes against how it treats the quadrants.

    Two cases are finite or settled here where the published codes are not. A quadrant without pixels
    (the centroid lies in the last row or column) counts nothing instead of making the score NaN. A
    quadrant in which map and mask are both constant is a perfect match, score 1, as the formula says;
    PySODMetrics scores it 1 or 0 depending on how the mean of equal numbers happens to be rounded.

    Args:
        histogram: pixels by quadrant, membership and level.
        alpha: weight of the object part.

    Returns:
        float64 `(B,)`; the mean of the map where all is object, 1 minus it where there is no object.
    """
    members = histogram.members
    score = alpha * _object_part(histogram) + (1 - alpha) * _region_part(histogram)
    if histogram.protocol == "pysodmetrics":
        score = score.clamp(min=0)
    mean = histogram.mean_value
    score = torch.where(members[:, 1] == 0, 1 - mean, score)
    return torch.where(members[:, 0] == 0, mean, score)


def _object_part(histogram: SaliencyHistogram) -> Tensor:
    """Equations 4 to 6: how bright and even the map is on the object, and how dark elsewhere."""
    counts, members = histogram.counts, histogram.members
    similarity = torch.stack([1 - histogram.values, histogram.values], 1)
    mean = (counts * similarity).sum(2) / members.clamp(min=1)
    variance = (counts * (similarity - mean[..., None]) ** 2).sum(2) / (members - 1).clamp(min=1)
    score = 2 * mean / (mean**2 + 1 + variance.sqrt() + EPS)
    return (score * members).sum(1) / members.sum(1)


def _region_part(histogram: SaliencyHistogram) -> Tensor:
    """Equations 1 to 3: structural similarity (SSIM) of map and mask in each quadrant, by area."""
    quadrants = histogram.quadrants.double()
    values = histogram.values[:, None]
    pixels, object_pixels = quadrants.sum(2), quadrants[:, :, 1]
    area = pixels.sum(2)
    divisor, degrees = area.clamp(min=1), (area - 1).clamp(min=0) + EPS
    map_mean = (pixels * values).sum(2) / divisor
    mask_mean = object_pixels.sum(2) / divisor
    map_variance = (pixels * (values - map_mean[..., None]) ** 2).sum(2) / degrees
    mask_variance = area * mask_mean * (1 - mask_mean) / degrees
    covariance = ((object_pixels * values).sum(2) - area * map_mean * mask_mean) / degrees
    squares, variances = map_mean**2 + mask_mean**2, map_variance + mask_variance
    score = 4 * map_mean * mask_mean * covariance / (squares * variances + EPS)
    # decided by counting: the variance of equal numbers need not come out as 0
    map_constant = (pixels > 0).sum(2) <= 1
    mask_constant = (mask_mean == 0) | (mask_mean == 1)
    score = torch.where(map_constant | mask_constant, 0.0, score)
    score = torch.where(map_constant & mask_constant, 1.0, score)
    return (score * area).sum(1) / area.sum(1)
