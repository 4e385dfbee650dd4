"""How the official SC-CAM release names its heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.errors import WeightsError
from wsss_zoo.weights.layouts import Published

#: Patterns of head keys in published files -> keys of `SCCAMNetwork`: `fc8` in round 0, later the two others,
#: which are called so whatever the numbers of classes and sub-categories are.
PUBLISHED_HEADS = {
    r"fc8(?:_20)?\.(weight)": r"head.classifier.\1",
    r"fc8_200\.(weight)": r"head.subcategories.\1",
}


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: backbone, `num_classes` and `k`.

    Raises:
        WeightsError: the number of sub-categories is no multiple of the number of classes.
    """
    hparams: dict[str, Any] = {"backbone": published.backbone}
    if "fc8.weight" in published.rest:
        hparams |= {"num_classes": len(published.rest["fc8.weight"]), "k": 0}
    if {"fc8_20.weight", "fc8_200.weight"} <= published.rest.keys():
        classes, columns = (len(published.rest[f"fc8_{name}.weight"]) for name in ("20", "200"))
        if columns % classes:
            raise WeightsError(
                f"fc8_200.weight has {columns} rows, no multiple of the {classes} classes of fc8_20.weight; "
                "these are no weights of SC-CAM"
            )
        hparams |= {"num_classes": classes, "k": columns // classes}
    return hparams


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the head keys."""
    return PUBLISHED_HEADS
