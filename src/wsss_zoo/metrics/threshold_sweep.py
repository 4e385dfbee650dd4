"""mIoU of localization maps over all background thresholds, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics import Metric

from wsss_zoo.errors import DataError
from wsss_zoo.metrics.functional.confusion import Absent, iou_per_class, mean_over_classes
from wsss_zoo.metrics.functional.pixel_average_precision import (
    SCORE_BINS,
    pixel_average_precision,
    score_histogram,
)
from wsss_zoo.metrics.functional.winner_histogram import confusion_at_thresholds, winner_histogram

#: Background scores 0.00, 0.01 .. 0.59 of the curve mode of SEAM's evaluation script.
DEFAULT_THRESHOLDS: tuple[float, ...] = tuple(i / 100 for i in range(60))


class ThresholdSweep(Metric):
    """Quality of localization maps for every constant background score.

    At threshold t a pixel is labelled by the argmax over [t, maps of the present classes], ties to
    background and then to the smaller class; counts run over all images before any division. The numbers
    are exactly those of labelling every image once per threshold, but each image is read once.

    The best point of the curve is found with the ground truth. Report it as an oracle, next to a
    threshold fixed beforehand and the threshold-free score (PxAP).

    Args:
        num_classes: number of foreground classes C (VOC: 20).
        thresholds: ascending, in [0, 1]; default 0.00, 0.01 .. 0.59. Compared in float32, as published.
        fixed_threshold: a threshold chosen without looking at ground truth, scored as well.
        ignore_index: pixels of this true label are left out everywhere.
        absent: a class that is neither predicted nor true anywhere is left out of the mean
            ("exclude") or counts as 0 ("zero", SEAM's script).
        **kwargs: passed to `torchmetrics.Metric`.

    Raises:
        DataError: thresholds that are not ascending or not in [0, 1]; on update, where sizes differ,
            labels or classes are out of range or maps are not finite.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    winners: Tensor
    scores: Tensor

    def __init__(
        self,
        num_classes: int,
        thresholds: Sequence[float] = DEFAULT_THRESHOLDS,
        fixed_threshold: float | None = None,
        ignore_index: int = 255,
        absent: Absent = "exclude",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if absent not in ("exclude", "zero"):
            raise DataError(f"ThresholdSweep: absent is 'exclude' or 'zero', got {absent!r}.")
        self.thresholds = _ascending(thresholds)
        self.fixed_threshold = fixed_threshold
        # The fixed threshold is counted along with the curve, wherever it lies.
        fixed = () if fixed_threshold is None else (float(fixed_threshold),)
        self._counted = _ascending(sorted({*self.thresholds, *fixed}))
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.absent: Absent = absent
        winners = torch.zeros(num_classes + 1, num_classes, len(self._counted) + 1, dtype=torch.int64)
        scores = torch.zeros(num_classes, 2, SCORE_BINS + 1, dtype=torch.int64)
        self.add_state("winners", default=winners, dist_reduce_fx="sum")
        self.add_state("scores", default=scores, dist_reduce_fx="sum")

    def update(
        self,
        maps: Tensor | npt.NDArray[Any],
        classes: Tensor | npt.NDArray[Any],
        target: Tensor | npt.NDArray[Any],
    ) -> None:
        """Count the pixels of one image.

        Args:
            maps: float `(K, H, W)` in [0, 1], compared in float32; K may be 0.
            classes: integers `(K,)`, 0-based foreground classes, ascending.
            target: integers `(H, W)`, 0 background, 1..C, or `ignore_index`.
        """
        device = self.winners.device
        maps = torch.as_tensor(maps, device=device).float()
        classes = torch.as_tensor(classes, device=device)
        target = torch.as_tensor(target, device=device)
        thresholds = torch.tensor(self._counted, dtype=torch.float32, device=device)
        self.winners += winner_histogram(
            maps, classes, target, thresholds, self.num_classes, self.ignore_index
        )
        self.scores += score_histogram(maps, classes, target, self.num_classes, self.ignore_index)

    def compute(self) -> dict[str, Tensor]:
        """Score everything counted so far. Scores are float64 in [0, 1].

        Returns:
            `thresholds` `(T,)`;
            `miou` `(T,)` and `iou` `(T, C + 1)`, NaN for classes absent at that threshold;
            `precision` and `recall` `(T, C + 1)`, NaN where a class is never predicted or never true;
            `over_activation` and `under_activation` `(T,)`: means over foreground classes with true
            pixels of FP / TP and FN / TP (m_FP and m_FN of SEAM), infinite where such a class is never hit;
            `best_threshold`, `best_miou`, `best_iou` `(C + 1,)`: the point of the curve with the largest
            mIoU (the smallest threshold of equals);
            `fixed_threshold`, `fixed_miou`, `fixed_iou` where a fixed threshold was given;
            `pxap`: mean over classes of the pixel average precision, `pxap_per_class` `(C,)`, NaN for a
            class without true pixels.
        """
        # on the CPU: float64 does not exist on every device
        confusion = confusion_at_thresholds(self.winners.cpu())
        on_curve = [self._counted.index(threshold) for threshold in self.thresholds]
        curve = confusion[on_curve]
        thresholds = torch.tensor(self.thresholds, dtype=torch.float64)
        iou = iou_per_class(curve)
        miou = mean_over_classes(iou, self.absent)
        best = int(miou.nan_to_num(nan=-1.0).argmax())  # the first of equals
        per_class = pixel_average_precision(self.scores.cpu())
        result = {
            "thresholds": thresholds,
            "miou": miou,
            "iou": iou,
            **_activation_rates(curve),
            "best_threshold": thresholds[best],
            "best_miou": miou[best],
            "best_iou": iou[best],
            "pxap": per_class.nanmean(),
            "pxap_per_class": per_class,
        }
        if self.fixed_threshold is not None:
            fixed_iou = iou_per_class(confusion[self._counted.index(float(self.fixed_threshold))])
            result["fixed_threshold"] = torch.tensor(self.fixed_threshold, dtype=torch.float64)
            result["fixed_miou"] = mean_over_classes(fixed_iou, self.absent)
            result["fixed_iou"] = fixed_iou
        return result


def _activation_rates(confusion: Tensor) -> dict[str, Tensor]:
    """Precision, recall and the over- and under-activation of SEAM from `(T, C + 1, C + 1)` counts."""
    hit = confusion.diagonal(dim1=-2, dim2=-1).double()
    predicted, true = confusion.sum(-2), confusion.sum(-1)
    over, under = (predicted - hit) / hit, (true - hit) / hit
    foreground = true[0] > 0  # true pixels are the same at every threshold
    foreground[0] = False
    return {
        "precision": hit / predicted,
        "recall": hit / true,
        # 0 / 0: never predicted, so nothing is over-activated; such a class is infinitely under-activated
        "over_activation": over[:, foreground].nan_to_num(nan=0.0, posinf=float("inf")).mean(-1),
        "under_activation": under[:, foreground].mean(-1),
    }


def _ascending(thresholds: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(value) for value in thresholds)
    if not values or not all(0 <= value <= 1 for value in values) or any(a >= b for a, b in pairwise(values)):
        raise DataError(f"ThresholdSweep: thresholds are ascending values in [0, 1], got {list(values)}.")
    return values
