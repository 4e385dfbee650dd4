"""Structure measure of saliency maps."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from wsss_zoo.metrics.functional.s_measure import s_measure
from wsss_zoo.metrics.saliency_metric import SaliencyMetric, SaliencyPairs


class SMeasure(SaliencyMetric):
    """S-measure with alpha = 0.5, averaged over images.

    Fan et al., "Structure-measure", ICCV 2017. Where the published codes give NaN (an object whose
    centroid lies in the last row or column) the score is finite, see `functional.s_measure`.

    Args:
        protocol: see `SaliencyProtocol`.
        **kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import SMeasure
        >>> mask = torch.zeros(8, 8, dtype=torch.bool)
        >>> mask[2:5, 3:6] = True
        >>> SMeasure()(mask.float(), mask)
        tensor(1.0000, dtype=torch.float64)
    """

    higher_is_better = True
    scalars: ClassVar[tuple[str, ...]] = ("s",)

    def _scores(self, pairs: SaliencyPairs) -> dict[str, Tensor]:
        return {"s": s_measure(pairs.histogram)}

    def compute(self) -> Tensor:
        """Average over the images so far: float64 scalar."""
        return self._mean("s")
