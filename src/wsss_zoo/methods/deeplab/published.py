"""How published DeepLab networks name their heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published

#: Patterns of head keys in published files -> keys of `DeepLabNetwork` (empty: left out), by variant.
PUBLISHED_HEADS: dict[str, dict[str, str]] = {
    # deeplab-pytorch
    "v2": {r"aspp\.(c\d\..+)": r"head.\1"},
    # Caffe releases call the last layer fc8, fc8_voc12, fc8-SEC, ...
    "largefov": {r"fc8[^.]*\.(weight|bias)": r"head.classifier.\1"},
    # DSRG calls it fc8-SEC_1 to fc8-SEC_4
    "vgg16_aspp": {r"fc8[^.]*_(\d)\.(weight|bias)": r"head.fc8_\1.\2"},
    # retraining code of SEAM
    "resnet38_seam": {r"((?:conv_fov2?|bn_fov2?|cls_conv)\..+)": r"head.\1"},
    # SSDD; the second head serves its training only
    "resnet38_psa": {r"seg_main\.(.+)": r"head.\1", r"seg_sub\..+": ""},
}
_VARIANTS = {
    "resnet101_msra": "v2",
    "vgg16_largefov": "largefov",
    "vgg16": "largefov",
    "vgg16_aspp": "vgg16_aspp",
}
_LAST_BIASES = ("aspp.c0.bias", "cls_conv.bias", "seg_main.seg2.bias")


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: variant, backbone, number of classes."""
    variant = _VARIANTS.get(published.backbone)
    if published.backbone == "resnet38d":
        variant = "resnet38_psa" if "seg_main.seg2.weight" in published.rest else "resnet38_seam"
    if variant is None:
        return {"backbone": published.backbone, "variant": "aspp"}
    hparams: dict[str, Any] = {"variant": variant}
    for key, value in published.rest.items():
        if key in _LAST_BIASES or (key.startswith("fc8") and key.endswith(".bias")):
            hparams["num_classes"] = len(value) - 1
    return hparams


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the head keys that files for these hyper-parameters have."""
    return PUBLISHED_HEADS.get(hparams.get("variant", "v2"), {})
