"""Loss of the two classifiers of SC-CAM."""

from __future__ import annotations

from torch import Tensor

from wsss_zoo.methods.cam.losses import multilabel_soft_margin


def joint_losses(
    logits: Tensor, labels: Tensor, subcategory_logits: Tensor, subcategory_labels: Tensor
) -> dict[str, Tensor]:
    """The two terms of the joint objective (Chang et al., CVPR 2020, section 3.2).

    Each is a multi-label soft margin loss, a mean over its own columns. The term of the sub-categories is not
    restricted to the classes present: every other sub-category, of absent classes too, is a negative.

    Args:
        logits: `(B, C)`.
        labels: `(B, C)` with 0 and 1.
        subcategory_logits: `(B, C*K)`; column `c * K + k` is sub-category k of class c.
        subcategory_labels: `(B, C*K)` with one 1 for each class present.

    Returns:
        `class` and `subcategory`, scalars; the objective is `class + weight * subcategory`.
    """
    return {
        "class": multilabel_soft_margin(logits, labels),
        "subcategory": multilabel_soft_margin(subcategory_logits, subcategory_labels),
    }
