"""How the published LDF names its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published


def _heads() -> dict[str, str]:
    """Every part comes twice, with the letter b for the body branch and d for the detail branch."""
    patterns = {r"linear\.(.+)": r"saliency_head.\1"}
    for index, kind in enumerate(("conv", "bn")):
        for level in range(4):
            patterns[rf"encoder\.{kind}{level + 1}\.(.+)"] = rf"interaction.trunk.{level}.{index}.\1"
    for letter, branch in (("b", "body"), ("d", "detail")):
        patterns[rf"linear{letter}\.(.+)"] = rf"{branch}_head.\1"
        for level in range(4):
            patterns[rf"conv{level + 2}{letter}\.(.+)"] = rf"{branch}_squeezes.{level}.\1"
            for index, kind in enumerate(("conv", "bn")):
                block = rf"{branch}_decoder.blocks.{level}.{index}.\1"
                head = rf"interaction.{branch}_heads.{level}.{index}.\1"
                patterns[rf"decoder{letter}\.{kind}{level}\.(.+)"] = block
                patterns[rf"encoder\.{kind}{level + 1}{letter}\.(.+)"] = head
    return patterns


#: Patterns of keys in published files, besides those of the backbone -> keys of `LDFNetwork`.
PUBLISHED_HEADS = _heads()


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: the backbone."""
    return {"backbone": published.backbone}


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the keys besides those of the backbone."""
    return PUBLISHED_HEADS
