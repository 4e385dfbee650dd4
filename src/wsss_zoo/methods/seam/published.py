"""How the official SEAM release names its heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published

#: Patterns of head keys in published files -> keys of `SEAMNetwork`.
PUBLISHED_HEADS = {
    r"fc8\.(weight)": r"head.classifier.\1",
    r"f8_3\.(weight)": r"head.correlation.shallow.\1",
    r"f8_4\.(weight)": r"head.correlation.deep.\1",
    r"f9\.(weight)": r"head.correlation.key.\1",
}


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: the backbone and the number of classes.

    The classifier of SEAM has a row for the background, unlike that of PSA under the same key.
    """
    hparams: dict[str, Any] = {"backbone": published.backbone}
    if "fc8.weight" in published.rest:
        hparams["num_classes"] = len(published.rest["fc8.weight"]) - 1
    return hparams


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the head keys."""
    return PUBLISHED_HEADS
