"""How the official SSDD release names the parts of its static stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.methods.ssdd.published import common_hparams, detector_patterns, head_patterns
from wsss_zoo.weights.layouts import Published


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict."""
    return common_hparams(published)


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the keys of head and detector."""
    return {**head_patterns("seg_main", "head"), **detector_patterns(0)}
