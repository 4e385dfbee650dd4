"""What classifiers and segmentation networks are watched by while they train."""

from __future__ import annotations

from typing import Any

import lightning as L
from torch import Tensor

from wsss_zoo.metrics import MeanIoU
from wsss_zoo.metrics.average_precision import MeanAveragePrecision


class ClassifierValidation(L.LightningModule):
    """A method whose network is a multi-label classifier: validation loss and mean average precision.

    Attributes:
        average_precision: over the validation images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.average_precision = MeanAveragePrecision()

    def validation_logits(self, images: Tensor) -> Tensor:
        """Logits of the classes `(B, C)` of images `(B, 3, H, W)`."""
        logits: Tensor = self(images)
        return logits

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of logits `(B, C)` against labels `(B, C)`, 0 and 1: a scalar."""
        raise NotImplementedError

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Loss of the classes, and scores for the mean average precision."""
        logits = self.validation_logits(batch["image"])
        loss = self.classification_loss(logits, batch["labels"])
        self.log("val/loss", loss, batch_size=len(logits), sync_dist=True)
        self.average_precision.update(logits, batch["labels"])

    def on_validation_epoch_end(self) -> None:
        """Log `val/map`, the mean over the classes that occur."""
        self.log("val/map", self.average_precision.compute(), prog_bar=True)
        self.average_precision.reset()


class SegmentationValidation(L.LightningModule):
    """A method that segments: mean IoU of the validation images, at one scale.

    Attributes:
        val_iou: set by the method, which knows the number of its classes.
    """

    val_iou: MeanIoU

    def segment(self, images: Tensor) -> Tensor:
        """Probabilities `(B, C + 1, H, W)` of images `(B, 3, H, W)`, background first."""
        raise NotImplementedError

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Count pixels of the validation images."""
        self.val_iou.update(self.segment(batch["image"]).argmax(1), batch["mask"])

    def on_validation_epoch_end(self) -> None:
        """Log `val/miou`."""
        self.log("val/miou", self.val_iou.compute()["miou"].float(), prog_bar=True)
        self.val_iou.reset()
