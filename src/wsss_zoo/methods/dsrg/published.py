"""Published files of SEC and DSRG: Caffe's names of DeepLab's VGG16, and DeepLab v2's of ResNet-101."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsss_zoo.methods.deeplab import published as deeplab
from wsss_zoo.weights.layouts import Published


def published_hparams(published: Published) -> dict[str, Any]:
    """Hyper-parameters that follow from a published state dict: variant and number of classes."""
    return deeplab.published_hparams(published)


def published_heads(hparams: Mapping[str, Any]) -> dict[str, str]:
    """Patterns of head keys; `fc8-SEC` in both releases, with a number where there are four branches."""
    return deeplab.published_heads(hparams)
