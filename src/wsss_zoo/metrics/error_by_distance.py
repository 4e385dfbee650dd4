"""Saliency error against the distance from the object's edge, over a whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from wsss_zoo.metrics.functional.error_by_distance import error_by_distance


class ErrorByDistance(Metric):
    """Mean absolute error of the pixels at each distance from the edge of the object.

    Pixels of all images are pooled; sums are added over ranks. See
    `wsss_zoo.metrics.functional.error_by_distance` for the distance.

    Args:
        max_distance: D, in pixels; what lies further away is left out.
        **kwargs: passed to `torchmetrics.Metric`.

    Raises:
        DataError: on update, where sizes differ or values lie outside [0, 1].

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import ErrorByDistance
        >>> metric = ErrorByDistance(max_distance=2)
        >>> metric.update(torch.tensor([[0.0, 0.2, 0.6, 1.0]]), torch.tensor([[0, 0, 1, 1]]))
        >>> metric.compute()["error"]
        tensor([0.0000, 0.2000, 0.4000, 0.0000], dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    total: Tensor
    pixels: Tensor

    def __init__(self, max_distance: int = 50, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_distance = max_distance
        self.add_state("total", torch.zeros(2 * max_distance, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(2 * max_distance, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, preds: Tensor | Sequence[Tensor], target: Tensor | Sequence[Tensor]) -> None:
        """Add one image, a batch, or a list of images of different sizes.

        Args:
            preds: float `(H, W)` or `(B, H, W)` in [0, 1], or a list of `(H, W)`.
            target: masks of the same sizes, bool or in [0, 1].
        """
        if isinstance(preds, Tensor) and preds.ndim == 2:
            preds, target = [preds], [target]  # type: ignore[list-item]
        for predicted, true in zip(preds, target, strict=True):
            total, pixels = error_by_distance(predicted, true, self.max_distance)
            self.total += total.to(self.total.device)
            self.pixels += pixels.to(self.pixels.device)

    def compute(self) -> dict[str, Tensor]:
        """Score everything added so far.

        Returns:
            `distance`: int64 `(2 D,)`, -D..-1 (outside) and 1..D (inside), in pixels; `error`: float64
            `(2 D,)` in [0, 1], NaN at distances without a pixel; `pixels`: int64 `(2 D,)`.
        """
        steps = torch.arange(1, self.max_distance + 1)
        error = self.total.cpu() / self.pixels.cpu()  # 0 / 0 = NaN marks distances without a pixel
        return {"distance": torch.cat([-steps.flip(0), steps]), "error": error, "pixels": self.pixels.cpu()}
