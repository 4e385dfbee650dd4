"""Enhanced-alignment measure of saliency maps: adaptive threshold and the curve over all thresholds."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from wsss_zoo.metrics.functional.e_measure import e_measure
from wsss_zoo.metrics.functional.saliency_histogram import SaliencyHistogram, ThresholdCounts
from wsss_zoo.metrics.saliency_metric import SaliencyMetric, SaliencyPairs


class EMeasure(SaliencyMetric):
    """E-measure, averaged over images.

    Fan et al., "Enhanced-alignment Measure for Binary Foreground Map Evaluation", IJCAI 2018. A perfect
    map scores N / (N - 1), a little above 1, as in the authors' code. The "E" of LDF's tables is
    `adaptive_strict`.

    Args:
        protocol: see `SaliencyProtocol`.
        **kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import EMeasure
        >>> result = EMeasure()(torch.tensor([[0.0, 0.2], [0.8, 1.0]]), torch.tensor([[0, 0], [1, 1]]))
        >>> result["max"]
        tensor(1.3333, dtype=torch.float64)
    """

    higher_is_better = True
    scalars: ClassVar[tuple[str, ...]] = ("adp_e", "adp_e_strict")
    curves: ClassVar[tuple[str, ...]] = ("e",)

    def _scores(self, pairs: SaliencyPairs) -> dict[str, Tensor]:
        return e_scores(pairs.histogram)

    def compute(self) -> dict[str, Tensor]:
        """Average over the images so far.

        Returns:
            float64. `adaptive`: selecting values from twice the mean of each map, at most 1;
            `adaptive_strict`: selecting values above twice the mean, as LDF's script; `curve` `(256,)`:
            at the thresholds 255, 254 .. 0; `mean` and `max` of the curve.
        """
        curve = self._mean("e")
        return {
            "adaptive": self._mean("adp_e"),
            "adaptive_strict": self._mean("adp_e_strict"),
            "mean": curve.mean(),
            "max": curve.max(),
            "curve": curve,
        }


def e_scores(histogram: SaliencyHistogram) -> dict[str, Tensor]:
    """Score each image: `adp_e` and `adp_e_strict` `(B,)`, `e` `(B, 256)`."""
    selections = (histogram.at_adaptive_threshold, histogram.above_twice_the_mean, histogram.at_thresholds)
    together = ThresholdCounts(
        true_positive=torch.cat([counts.true_positive for counts in selections], 1),
        selected=torch.cat([counts.selected for counts in selections], 1),
        positive=histogram.at_thresholds.positive,
        total=histogram.at_thresholds.total,
    )
    scores = e_measure(together)
    return {"adp_e": scores[:, 0], "adp_e_strict": scores[:, 1], "e": scores[:, 2:]}
