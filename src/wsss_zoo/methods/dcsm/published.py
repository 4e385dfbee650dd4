"""How the Caffe and MatConvNet releases of DCSM name their classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published

#: Patterns of head keys in published files -> keys of `DCSMNetwork`.
PUBLISHED_HEADS = {r"fc8\.(weight|bias)": r"classifier.\1"}


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: the backbone, its width, the classes."""
    hparams: dict[str, Any] = {"backbone": published.backbone}
    width = len(published.tensors.get("fc6.weight", ()))
    if published.backbone == "vgg16_fcn" and width not in (0, 4096):  # 4096: its default
        hparams["backbone_args"] = {"fc_channels": width}
    if "fc8.weight" in published.rest:
        hparams["num_classes"] = len(published.rest["fc8.weight"])
    return hparams


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the head keys."""
    return PUBLISHED_HEADS
