"""How published CAM classifiers name their heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published

#: Patterns of head keys in published files -> keys of `CAMNetwork`. PSA calls it fc8, IRN classifier.
PUBLISHED_HEADS = {r"(?:fc8|classifier)\.(weight)": r"classifier.\1"}


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: the backbone and the number of classes."""
    hparams: dict[str, Any] = {"backbone": published.backbone}
    for key in ("fc8.weight", "classifier.weight"):
        if key in published.rest:
            hparams["num_classes"] = len(published.rest[key])
    return hparams


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the head keys."""
    return PUBLISHED_HEADS
