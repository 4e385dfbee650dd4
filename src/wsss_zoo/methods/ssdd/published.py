"""How the official SSDD release names its parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.weights.layouts import Published

_VECTORS = r"(weight|bias|running_mean|running_var|num_batches_tracked)"


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict.

    The release keeps heads and detectors in two files; with both (one after the other in a list, or in one
    state dict) the network can be trained on, with the first alone it segments.
    """
    complete = "dd_head0.conv1ab.conv1.weight" in published.rest
    return {
        **common_hparams(published),
        "training_parts": complete,
        "seed_module": not complete or "dd_head1.conv1ab.conv1.weight" in published.rest,
    }


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of the keys of heads and detectors (empty: left out)."""
    if not hparams.get("training_parts", True):
        return {**head_patterns("seg_main", "head"), r"seg_sub\..+": ""}
    patterns = {**head_patterns("seg_main", "head"), **detector_patterns(0)}
    if hparams.get("seed_module", True):
        patterns |= {**head_patterns("seg_sub", "sub_head"), **detector_patterns(1)}
    return patterns


def common_hparams(published: Published) -> dict[str, Any]:
    """Backbone, number of classes and widths."""
    hparams: dict[str, Any] = {"backbone": published.backbone}
    widths = {
        "seg_main.seg1.conv1.bias": "head_channels",
        "dd_head0.conv1ab.bn1.bias": "detector_channels",
    }
    for key, name in widths.items():
        if key in published.rest:
            hparams[name] = len(published.rest[key])
    if "seg_main.seg2.bias" in published.rest:
        hparams["num_classes"] = len(published.rest["seg_main.seg2.bias"]) - 1
    return hparams


def head_patterns(theirs: str, ours: str) -> dict[str, str]:
    """Keys of a segmentation head."""
    return {
        rf"{theirs}\.seg1\.conv1\.(weight|bias)": rf"{ours}.hidden.conv.\1",
        rf"{theirs}\.seg1\.bn1\.{_VECTORS}": rf"{ours}.hidden.norm.\1",
        rf"{theirs}\.seg2\.(weight|bias)": rf"{ours}.classifier.\1",
    }


def detector_patterns(index: int) -> dict[str, str]:
    """Keys of a difference detector."""
    ours, body = f"detectors.{index}", rf"dd{index}\.conv1abc"
    blocks = {rf"dd_head{index}\.conv1ab": "image", rf"dd{index}\.conv1c": "mask", body: "reduce"}
    patterns = {}
    for theirs, name in blocks.items():
        patterns[rf"{theirs}\.conv1\.(weight)"] = rf"{ours}.{name}.conv.\1"
        patterns[rf"{theirs}\.bn1\.{_VECTORS}"] = rf"{ours}.{name}.norm.\1"
    return {
        **patterns,
        rf"{body}\.conv2\.(weight)": rf"{ours}.middle.conv.\1",
        rf"{body}\.bn2\.{_VECTORS}": rf"{ours}.middle.norm.\1",
        rf"{body}\.conv3\.(weight)": rf"{ours}.expand.\1",
        rf"{body}\.bn3\.{_VECTORS}": rf"{ours}.expand_norm.\1",
        rf"{body}\.downsample\.(weight)": rf"{ours}.shortcut.\1",
        rf"{body}\.bnd\.{_VECTORS}": rf"{ours}.shortcut_norm.\1",
        rf"dd{index}\.pred_abc\.(weight)": rf"{ours}.classifier.\1",
    }
