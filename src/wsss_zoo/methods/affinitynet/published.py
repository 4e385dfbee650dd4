"""How published AffinityNets name their heads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published

#: Patterns of head keys in published files -> keys of `AffinityNetwork` (empty: left out).
PUBLISHED_HEADS = {
    r"f8_3\.weight": "head.levels.0.conv.weight",
    r"f8_4\.weight": "head.levels.1.conv.weight",
    r"f8_5\.weight": "head.levels.2.conv.weight",
    r"gn8_3\.(weight|bias)": r"head.levels.0.norm.\1",
    r"gn8_4\.(weight|bias)": r"head.levels.1.norm.\1",
    r"gn8_5\.(weight|bias)": r"head.levels.2.norm.\1",
    r"f9\.weight": "head.embedding.weight",
    # SEAM reads its files without insisting on their keys, so that a classifier may be among them
    r"fc8\.(weight|bias)": "",
}
#: VGG16 without a classifier looks like DeepLab-LargeFOV's.
_BACKBONES = {"vgg16_largefov": "vgg16"}


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: the backbone and the form of the head."""
    norm = "group" if "gn8_3.weight" in published.rest else "none"
    return {"backbone": _BACKBONES.get(published.backbone, published.backbone), "norm": norm}


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the head keys."""
    return PUBLISHED_HEADS
