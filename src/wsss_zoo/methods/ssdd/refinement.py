"""What the dynamic stage integrates in every step: prediction and its CRF, then the seeds and the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor

from wsss_zoo.methods.ssdd.difference import DifferenceDetector
from wsss_zoo.methods.ssdd.integration import integrate, vanished_classes
from wsss_zoo.methods.ssdd.network import HeadOutputs


class Integration(NamedTuple):
    """Two masks and what came of them.

    Attributes:
        d_before: logits `(B, 1, h, w)` from the first mask.
        d_after: from the second mask.
        flags: `(B, C + 1)`, see `vanished_classes`.
        mask: `(B, h, w)`, the integrated one.
    """

    d_before: Tensor
    d_after: Tensor
    flags: Tensor
    mask: Tensor


def detect_and_integrate(
    detector: DifferenceDetector,
    features: Tensor,
    before: Tensor,
    after: Tensor,
    labels: Tensor,
    bias: float = 0.4,
    bg_bias: float = 0.0,
    prefer: Literal["after", "before"] = "after",
) -> Integration:
    """Predict the differences from each of two masks and integrate the masks.

    Args:
        detector: predicts differences.
        features: what it reads from the image, `(B, channels, h, w)`.
        before: integers `(B, h, w)`.
        after: as `before`.
        labels: `(B, C)`.
        bias: see `integrate`.
        bg_bias: see `integrate`.
        prefer: see `integrate`.
    """
    d_before, d_after = detector(features, before), detector(features, after)
    flags = vanished_classes(before, after, labels, prefer)
    mask = integrate(d_before.detach(), d_after.detach(), before, after, flags, bias, bg_bias, prefer)
    return Integration(d_before, d_after, flags, mask)


def dynamic_refinement(
    detectors: Sequence[DifferenceDetector],
    seen: HeadOutputs,
    prediction: Tensor,
    crf: Tensor,
    seeds: Tensor,
    labels: Tensor,
    bias: float = 0.4,
    bg_bias: float = 0.0,
    prefer: Literal["after", "before"] = "after",
) -> list[Integration]:
    """The first detector integrates prediction and CRF, the second the seeds and the result of the first.

    Args:
        detectors: one or two; detector k reads the features of head k.
        seen: what the heads make of the images.
        prediction: integers `(B, h, w)`, mask of the main head.
        crf: mask of its CRF.
        seeds: the mask that the stage began with.
        labels: `(B, C)`.
        bias: see `integrate`.
        bg_bias: see `integrate`.
        prefer: see `integrate`.

    Returns:
        One integration for each detector; the mask of the last one trains the main head.
    """
    steps: list[Integration] = []
    for detector, deep in zip(detectors, seen.features, strict=True):
        before, after = (prediction, crf) if not steps else (seeds, steps[-1].mask)
        features = detector.features(deep, seen.shallow)
        steps.append(detect_and_integrate(detector, features, before, after, labels, bias, bg_bias, prefer))
    return steps
