"""Pseudo labels from localization maps: background score, dense CRF, argmax."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine.background import background_power, background_threshold, labels_from_scores
from wsss_zoo.refine.crf_parameters import crf_parameters
from wsss_zoo.refine.mean_field import crf_marginals, unary_from_probabilities

#: Label of pixels that training on pseudo labels leaves out.
IGNORE = 255


class PseudoLabels:
    """Turn the localization maps of an image into a label mask.

    Background score and maps are stacked, optionally sharpened by the dense CRF, and each pixel takes the
    highest plane. The stack is no probability distribution and is not made one (as in PSA).

    Args:
        value: the background score (background "threshold"; PSA 0.2, SEAM 0.26, IRN 0.15) or its power
            alpha (background "power"; 4 strong, 24 or 32 weak background).
        background: constant score or `(1 - max over classes)^alpha`.
        crf: name of a setting in `CRF_PARAMETERS`, or None for no CRF.
        crf_args: fields of `CrfParameters` that replace the setting's.
        ignore_below: pixels whose winning plane (after the CRF, if any) is below become 255; None keeps all.

    Raises:
        RecipeError: values out of range, or an unknown CRF setting or field.
    """

    def __init__(
        self,
        value: float,
        background: Literal["threshold", "power"] = "power",
        crf: str | None = "psa",
        crf_args: dict[str, Any] | None = None,
        ignore_below: float | None = None,
    ) -> None:
        if background not in ("threshold", "power"):
            raise RecipeError(f"PseudoLabels: background is 'threshold' or 'power', got {background!r}.")
        if background == "threshold" and not 0 <= value <= 1:
            raise RecipeError(f"PseudoLabels: value, the background threshold, lies in [0, 1], got {value}.")
        if background == "power" and not value > 0:
            raise RecipeError(f"PseudoLabels: value, the power of the background, is above 0, got {value}.")
        if ignore_below is not None and not 0 <= ignore_below <= 1:
            raise RecipeError(f"PseudoLabels: ignore_below lies in [0, 1], got {ignore_below}.")
        if crf is None and crf_args:
            raise RecipeError("PseudoLabels: crf_args are given, but crf is null; name a CRF setting.")
        self.value = value
        self.background = background
        self.crf = None if crf is None else crf_parameters(crf, **(crf_args or {}))
        self.ignore_below = ignore_below

    def __call__(self, image: npt.NDArray[np.uint8], maps: LocalizationMaps) -> npt.NDArray[np.uint8]:
        """Label every pixel of one image.

        Args:
            image: uint8 `(H, W, 3)`, RGB.
            maps: maps of the classes present, of an image of this size.

        Returns:
            uint8 `(H, W)`: 0 background, class index + 1, 255 ignore.

        Raises:
            DataError: image and maps are of different sizes.
        """
        require_same_size(image, maps)
        foreground = maps.full_size()
        score = background_power if self.background == "power" else background_threshold
        scores = np.concatenate([score(foreground, self.value)[None], foreground])
        if self.crf is not None:
            scores = crf_marginals(image, unary_from_probabilities(scores), self.crf)
        mask = labels_from_scores(scores, maps.classes)
        if self.ignore_below is not None:
            mask[scores.max(axis=0) < self.ignore_below] = IGNORE
        return mask


def require_same_size(image: npt.NDArray[np.uint8], maps: LocalizationMaps) -> None:
    """Refuse an image that the maps were not made for.

    Raises:
        DataError: sizes differ.
    """
    if image.shape[:2] != maps.size:
        raise DataError(
            f"the image is {image.shape[0]} x {image.shape[1]} pixels, but its localization maps were made "
            f"for {maps.size[0]} x {maps.size[1]}; make the maps anew from this image."
        )
