"""How published DeepLab networks name their heads."""

from __future__ import annotations

from typing import Any

from wsss_zoo.weights.layouts import Published

#: Head keys of published files -> keys of `DeepLabNetwork`, by variant.
PUBLISHED_HEADS = {
    "v2": {"aspp.": "head."},
    "largefov": {"fc8": "head.classifier"},
    "resnet38_seam": {
        "conv_fov.": "head.conv_fov.",
        "bn_fov.": "head.bn_fov.",
        "conv_fov2.": "head.conv_fov2.",
        "bn_fov2.": "head.bn_fov2.",
        "cls_conv.": "head.cls_conv.",
    },
    "resnet38_psa": {"seg_main.": "head."},
}
_VARIANT_OF_BACKBONE = {"resnet101_msra": "v2", "vgg16_largefov": "largefov", "vgg16": "largefov"}
_CLASSIFIERS = ("aspp.c0.bias", "fc8.bias", "cls_conv.bias", "seg_main.seg2.bias")


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: variant, backbone, number of classes."""
    variant = _VARIANT_OF_BACKBONE.get(published.backbone)
    if published.backbone == "resnet38d":
        variant = "resnet38_seam" if "cls_conv.weight" in published.rest else "resnet38_psa"
    hparams: dict[str, Any] = {"variant": variant or "aspp", "backbone": published.backbone}
    if variant == "largefov":
        hparams["backbone"] = "vgg16_largefov"
    for key, value in published.rest.items():
        if key in _CLASSIFIERS or (key.startswith("fc8") and key.endswith("bias")):
            hparams["num_classes"] = len(value) - 1
    return hparams
