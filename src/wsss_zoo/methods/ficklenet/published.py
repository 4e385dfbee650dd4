"""How files with weights of FickleNet may name its classifier. There is no official release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published

#: Patterns of head keys -> keys of `FickleNetwork` (empty: left out).
PUBLISHED_HEADS = {
    r"(?:head\.|classifier\.|fc8\.)?(weight|bias)": r"head.\1",
    # the fully connected layers of VGG16, which FickleNet has not: vgg16_20M's and torchvision's
    r"(?:fc[67]|classifier\.[036])\.(?:weight|bias)": "",
}


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a state dict: backbone, number of classes, side of the windows."""
    # the convolutions of VGG16 have the same keys in all its variants
    backbone = "vgg16_conv5" if published.backbone.startswith("vgg16") else published.backbone
    hparams: dict[str, Any] = {"backbone": backbone}
    for key in ("head.weight", "classifier.weight", "fc8.weight", "weight"):
        if key in published.rest:
            hparams["num_classes"] = len(published.rest[key])
            hparams["kernel"] = published.rest[key].shape[-1]
    return hparams


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the head keys."""
    return PUBLISHED_HEADS
