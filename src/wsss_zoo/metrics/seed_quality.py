"""How good labels are of which an image has only some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from wsss_zoo.metrics.functional.confusion import confusion_matrix, iou_per_class


class SeedQuality(Metric):
    """Precision, recall and IoU of seeds: masks in which most pixels may have no label.

    Counts run over all images before any division, as in `MeanIoU`. Means run over the classes that are true
    or predicted somewhere, background among them.

    Args:
        num_classes: number of labels, background included (VOC: 21).
        unlabelled: the value of pixels without a label.
        ignore_index: pixels of this true label are left out everywhere.
        **kwargs: passed to `torchmetrics.Metric`.

    Raises:
        DataError: on update, where labels are out of range or sizes differ.

    Example:
        >>> import torch
        >>> from wsss_zoo.metrics import SeedQuality
        >>> metric = SeedQuality(num_classes=2)
        >>> metric.update(torch.tensor([[0, 1, 255, 255]]), torch.tensor([[0, 1, 1, 0]]))
        >>> {name: metric.compute()[name].item() for name in ("precision", "recall", "coverage")}
        {'precision': 1.0, 'recall': 0.5, 'coverage': 0.5}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor
    pixels: Tensor

    def __init__(
        self, num_classes: int, unlabelled: int = 255, ignore_index: int = 255, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.unlabelled = unlabelled
        self.ignore_index = ignore_index
        zeros = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        self.add_state("confusion", default=zeros, dist_reduce_fx="sum")  # of pixels with a label
        self.add_state("pixels", default=zeros[0].clone(), dist_reduce_fx="sum")  # all, by their true class

    def update(self, preds: Tensor | Sequence[Tensor], target: Tensor | Sequence[Tensor]) -> None:
        """Count the pixels of one image, a batch, or a list of images of different sizes.

        Args:
            preds: integers `(H, W)` or `(B, H, W)`, or a list of `(H, W)`; 0 background, 1..C, `unlabelled`.
            target: the same, with `ignore_index` where nothing is scored.
        """
        pairs = (
            list(zip(preds, target, strict=True)) if isinstance(preds, list | tuple) else [(preds, target)]
        )
        for predicted, true in pairs:
            labels = torch.as_tensor(predicted, device=self.confusion.device)
            target = torch.as_tensor(true, device=self.confusion.device)
            missing = labels == self.unlabelled
            labels = labels.masked_fill(missing, 0)
            self.pixels += confusion_matrix(labels, target, self.num_classes, self.ignore_index).sum(1)
            target = target.masked_fill(missing, self.ignore_index)
            self.confusion += confusion_matrix(labels, target, self.num_classes, self.ignore_index)

    def compute(self) -> dict[str, Tensor]:
        """Score everything counted so far: float64 scalars in [0, 1], NaN where nothing was counted.

        Returns:
            `precision`: mean over classes of the part of its seeds that is right, of classes with seeds;
            `recall`: mean over classes of the part of its true pixels that is found, of classes with pixels;
            `foreground_precision` and `foreground_recall`: the same without background;
            `coverage`: the part of the pixels that has a label;
            `labelled_miou`: mean IoU among labelled pixels (a true pixel without a label is not missed).
        """
        # on the CPU: float64 does not exist on every device
        confusion, pixels = self.confusion.cpu(), self.pixels.cpu()
        hit = confusion.diagonal().double()
        precision, recall = hit / confusion.sum(0), hit / pixels  # 0 / 0 = NaN: no such pixel
        return {
            "precision": precision.nanmean(),
            "recall": recall.nanmean(),
            "foreground_precision": precision[1:].nanmean(),
            "foreground_recall": recall[1:].nanmean(),
            "coverage": confusion.sum().double() / pixels.sum(),
            "labelled_miou": iou_per_class(confusion).nanmean(),
        }
