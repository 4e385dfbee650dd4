"""Mean intersection over union from one confusion matrix, as PASCAL VOC scores segmentation."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from wsss_zoo.errors import DataError

#: What a class counts that occurs neither in the predictions nor in the ground truth: nothing
#: ("exclude") or an IoU of 0 ("zero", the evaluation script of SEAM and its family).
Absent: TypeAlias = Literal["exclude", "zero"]


def confusion_matrix(preds: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count pixels by true and predicted class.

    Args:
        preds: integers of any shape, labels 0..num_classes-1 wherever `target` is not ignored.
        target: integers of the same shape, labels 0..num_classes-1 or `ignore_index`.
        num_classes: number of labels, background included.
        ignore_index: pixels of this true label are left out everywhere.

    Returns:
        int64 `(num_classes, num_classes)`; row = true class, column = predicted class.

    Raises:
        DataError: shapes differ, values are not integers, or a label is out of range.
    """
    if preds.shape != target.shape:
        raise DataError(
            f"prediction and ground truth differ in size: {tuple(preds.shape)} and {tuple(target.shape)}. "
            "Predict at the size of the original image."
        )
    for name, labels in (("prediction", preds), ("ground truth", target)):
        if labels.is_floating_point() or labels.is_complex():
            raise DataError(
                f"{name} must hold integer labels, got {labels.dtype}; take the argmax of scores."
            )
    valid = target != ignore_index
    true = target[valid].long()
    predicted = preds[valid].long()
    _require_labels("ground truth", true, num_classes, ignore_index)
    _require_labels("prediction", predicted, num_classes, ignore_index)
    counts = torch.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def _require_labels(name: str, labels: Tensor, num_classes: int, ignore_index: int) -> None:
    if labels.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(labels))
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise DataError(
            f"{name} holds label {wrong}, expected 0..{num_classes - 1}"
            + (f" or {ignore_index} (ignore)." if name == "ground truth" else " at every scored pixel.")
        )


def iou_per_class(confusion: Tensor) -> Tensor:
    """Intersection over union of each class.

    Args:
        confusion: int64 `(..., C, C)`, row = true class, column = predicted class.

    Returns:
        float64 `(..., C)` in [0, 1]; NaN for a class that is neither predicted nor true anywhere.
    """
    intersection = confusion.diagonal(dim1=-2, dim2=-1).double()
    union = confusion.sum(-1) + confusion.sum(-2) - intersection
    return intersection / union  # 0 / 0 = NaN marks the absent class


def mean_over_classes(iou: Tensor, absent: Absent = "exclude") -> Tensor:
    """Average over the last dimension, with absent classes (NaN) left out or counted as 0.

    Args:
        iou: float `(..., C)`, NaN for absent classes.
        absent: see `Absent`.

    Returns:
        float `(...)`; NaN where every class is absent and left out.
    """
    return iou.nan_to_num(nan=0.0).mean(-1) if absent == "zero" else iou.nanmean(-1)


def mean_iou(
    preds: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255, absent: Absent = "exclude"
) -> Tensor:
    """Mean IoU of one image or batch as if it were the whole data set; see `wsss_zoo.metrics.MeanIoU`.

    Returns:
        float64 scalar in [0, 1].
    """
    confusion = confusion_matrix(preds, target, num_classes, ignore_index)
    return mean_over_classes(iou_per_class(confusion), absent)
