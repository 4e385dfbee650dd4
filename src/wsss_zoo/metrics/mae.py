"""Mean absolute error of saliency maps."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from wsss_zoo.metrics.functional.saliency_mae import saliency_mae
from wsss_zoo.metrics.saliency_metric import SaliencyMetric, SaliencyPairs


class MAE(SaliencyMetric):
    """Mean absolute error of saliency maps against masks, averaged over images.

    Perazzi et al., "Saliency Filters", CVPR 2012. Each map is stretched to [0, 1] first.

    Args:
        protocol: see `SaliencyProtocol`.
        **kwargs: passed to `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import MAE
        >>> MAE()(torch.tensor([[0.0, 0.2], [0.8, 1.0]]), torch.tensor([[0, 0], [1, 1]]))
        tensor(0.1000, dtype=torch.float64)
    """

    higher_is_better = False
    scalars: ClassVar[tuple[str, ...]] = ("mae",)

    def _scores(self, pairs: SaliencyPairs) -> dict[str, Tensor]:
        return {"mae": saliency_mae(pairs.histogram)}

    def compute(self) -> Tensor:
        """Average over the images so far: float64 scalar in [0, 1]."""
        return self._mean("mae")
