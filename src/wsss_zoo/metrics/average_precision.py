"""Mean average precision of a multi-label classifier."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.utilities import dim_zero_cat


class MeanAveragePrecision(Metric):
    """Average precision of each class over all images, then the mean over the classes that occur.

    A class without a positive image has no average precision. `MultilabelAveragePrecision` of torchmetrics
    scores it 0 and averages it in, which punishes a small validation split for what it does not contain.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add images: logits and multi-hot labels, both `(B, C)`."""
        # the sigmoid is taken here: the functional twin takes it only where a value leaves [0, 1]
        self.scores.append(logits.detach().float().sigmoid())
        self.labels.append(labels.detach() > 0.5)

    def compute(self) -> Tensor:
        """A float32 scalar in [0, 1]; NaN where no image has any class."""
        scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
        per_class = [
            binary_average_precision(scores[:, index], labels[:, index].int())
            for index in torch.nonzero(labels.any(0)).flatten().tolist()
        ]
        return torch.stack(per_class).mean() if per_class else scores.new_tensor(float("nan"))
