"""Mean intersection over union of a whole data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from wsss_zoo.errors import DataError
from wsss_zoo.metrics.functional.confusion import Absent, confusion_matrix, iou_per_class, mean_over_classes


class MeanIoU(Metric):
    """VOC mIoU: one confusion matrix over all images, never a mean of per-image scores.

    Pixels are counted in int64 and summed over ranks, so a distributed run reports what one process
    would.

    Args:
        num_classes: number of labels, background included (VOC: 21).
        ignore_index: pixels of this true label are left out everywhere.
        absent: a class that is neither predicted nor true anywhere is left out of the mean
            ("exclude", VOC) or counts as 0 ("zero", the evaluation script of SEAM and its family).
        **kwargs: passed to `torchmetrics.Metric`.

    Raises:
        DataError: on update, where labels are out of range or sizes differ.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import MeanIoU
        >>> metric = MeanIoU(num_classes=3)
        >>> metric.update(torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 0], [1, 255]]))
        >>> metric.compute()["iou"]
        tensor([0.5000, 0.5000,    nan], dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(
        self, num_classes: int, ignore_index: int = 255, absent: Absent = "exclude", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if absent not in ("exclude", "zero"):
            raise DataError(f"MeanIoU: absent is 'exclude' or 'zero', got {absent!r}.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.absent: Absent = absent
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", default=zeros, dist_reduce_fx="sum")

    def update(self, preds: Tensor | Sequence[Tensor], target: Tensor | Sequence[Tensor]) -> None:
        """Count the pixels of one image, a batch, or a list of images of different sizes.

        Args:
            preds: integers `(H, W)` or `(B, H, W)`, or a list of `(H, W)`; 0 background, 1..C.
            target: the same, with `ignore_index` where nothing is scored.
        """
        pairs = (
            list(zip(preds, target, strict=True)) if isinstance(preds, list | tuple) else [(preds, target)]
        )
        for predicted, true in pairs:
            self.confusion += confusion_matrix(
                torch.as_tensor(predicted, device=self.confusion.device),
                torch.as_tensor(true, device=self.confusion.device),
                self.num_classes,
                self.ignore_index,
            )

    def compute(self) -> dict[str, Tensor]:
        """Score everything counted so far.

        Returns:
            `miou`: float64 scalar in [0, 1]; `iou`: float64 `(num_classes,)`, NaN for absent classes;
            `classes_present`: bool `(num_classes,)`, predicted or true somewhere.
        """
        # on the CPU: float64 does not exist on every device
        iou = iou_per_class(self.confusion.cpu())
        return {"miou": mean_over_classes(iou, self.absent), "iou": iou, "classes_present": ~iou.isnan()}
