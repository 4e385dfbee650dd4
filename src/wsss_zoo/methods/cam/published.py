"""How published CAM classifiers name their heads."""

from __future__ import annotations

from typing import Any

from wsss_zoo.weights.layouts import Published

#: Head keys of published files -> keys of `CAMNetwork`. PSA calls it fc8, IRN classifier.
PUBLISHED_HEADS = {"": {"fc8.": "classifier.", "classifier.": "classifier."}}


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: the backbone and the number of classes."""
    heads = [key for key in ("fc8.weight", "classifier.weight") if key in published.rest]
    hparams: dict[str, Any] = {"backbone": published.backbone}
    if heads:
        hparams["num_classes"] = len(published.rest[heads[0]])
    return hparams
