"""Weighted F-measure of saliency maps."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from wsss_zoo.metrics.functional.weighted_f_measure import weighted_f_measure
from wsss_zoo.metrics.saliency_metric import SaliencyMetric, SaliencyPairs


class WeightedFMeasure(SaliencyMetric):
    """Weighted F-measure with beta2 = 1, averaged over images.

    Margolin et al., "How to Evaluate Foreground Maps?", CVPR 2014. Most of its time is an exact distance
    transform of each mask, which always runs on the CPU.

    Args:
        protocol: see `SaliencyProtocol`.
        **kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import WeightedFMeasure
        >>> mask = torch.zeros(8, 8, dtype=torch.bool)
        >>> mask[2:5, 3:6] = True
        >>> WeightedFMeasure()(mask.float(), mask)
        tensor(1., dtype=torch.float64)
    """

    higher_is_better = True
    scalars: ClassVar[tuple[str, ...]] = ("wf",)

    def _scores(self, pairs: SaliencyPairs) -> dict[str, Tensor]:
        return {"wf": weighted_f_measure(pairs.batches, pairs.histogram, threads=pairs.threads)}

    def compute(self) -> Tensor:
        """Average over the images so far: float64 scalar in [0, 1]."""
        return self._mean("wf")
