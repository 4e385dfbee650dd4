"""F-measure of saliency maps: adaptive threshold, the curve over all thresholds, precision and recall."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from wsss_zoo.metrics.functional.f_measure import f_measure, precision_recall
from wsss_zoo.metrics.functional.saliency_histogram import SaliencyHistogram
from wsss_zoo.metrics.saliency_metric import SaliencyMetric, SaliencyPairs


class FMeasure(SaliencyMetric):
    """F-measure with beta2 = 0.3, averaged over images.

    Achanta et al., "Frequency-tuned Salient Region Detection", CVPR 2009. Papers print different numbers
    under one name: "mF" of LDF is `adaptive`, "mean F" of PySODMetrics is `mean`; "max F" of PySODMetrics
    is `max`, that of LDF's scripts is `max_of_mean_pr`.

    Args:
        protocol: see `SaliencyProtocol`.
        **kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import FMeasure
        >>> result = FMeasure()(torch.tensor([[0.0, 0.2], [0.8, 1.0]]), torch.tensor([[0, 0], [1, 1]]))
        >>> result["max"], result["adaptive"]
        (tensor(1., dtype=torch.float64), tensor(0.8125, dtype=torch.float64))
    """

    higher_is_better = True
    scalars: ClassVar[tuple[str, ...]] = ("adp_f",)
    curves: ClassVar[tuple[str, ...]] = ("f", "precision", "recall")

    def _scores(self, pairs: SaliencyPairs) -> dict[str, Tensor]:
        return f_scores(pairs.histogram)

    def compute(self) -> dict[str, Tensor]:
        """Average over the images so far.

        Returns:
            float64 in [0, 1]. `adaptive`: at twice the mean of each map; `curve` `(256,)`: mean F at the
            thresholds 255, 254 .. 0; `mean` and `max` of the curve; `precision`, `recall` `(256,)`: their
            means at the same thresholds; `max_of_mean_pr`: largest F of these two.
        """
        curve, precision, recall = (self._mean(name) for name in self.curves)
        return {
            "adaptive": self._mean("adp_f"),
            "mean": curve.mean(),
            "max": curve.max(),
            "max_of_mean_pr": f_measure(precision, recall).max(),
            "curve": curve,
            "precision": precision,
            "recall": recall,
        }


def f_scores(histogram: SaliencyHistogram) -> dict[str, Tensor]:
    """Score each image: `adp_f` `(B,)`; `f`, `precision` and `recall` `(B, 256)`."""
    adaptive = f_measure(*precision_recall(histogram.at_adaptive_threshold))
    precision, recall = precision_recall(histogram.at_thresholds)
    return {
        "adp_f": adaptive[:, 0],
        "f": f_measure(precision, recall),
        "precision": precision,
        "recall": recall,
    }
