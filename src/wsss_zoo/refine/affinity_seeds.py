"""The two soft label sets from which AffinityNet learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.label_scores import LabelScores
from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.errors import RecipeError
from wsss_zoo.refine.background import background_power, labels_from_scores
from wsss_zoo.refine.crf_parameters import crf_parameters
from wsss_zoo.refine.mean_field import crf_marginals, unary_from_probabilities
from wsss_zoo.refine.pseudo_labels import require_same_size


class AffinitySeeds:
    """Localization maps with a strong and with a weak background, each sharpened by the dense CRF.

    Ahn & Kwak, PSA, CVPR 2018, section 3.2. The background score is `(1 - max over classes)^alpha`. With a
    low alpha background is strong: what is foreground even then is trusted foreground. With a high alpha it
    is weak: what is background even then is trusted background. AffinityNet combines the two on its own grid.

    Args:
        low: alpha of the strong background (4).
        high: alpha of the weak background (PSA's and SC-CAM's code 32, SEAM 24).
        crf: name of a setting in `CRF_PARAMETERS`, or None for no CRF.
        crf_args: fields of `CrfParameters` that replace the setting's.

    Raises:
        RecipeError: powers out of range or in the wrong order, or an unknown CRF setting or field.
    """

    #: What a call returns, by kind.
    outputs = ("scores_low", "scores_high", "masks")

    def __init__(
        self,
        low: float = 4.0,
        high: float = 32.0,
        crf: str | None = "psa",
        crf_args: dict[str, Any] | None = None,
    ) -> None:
        if not 0 < low <= high:
            raise RecipeError(f"AffinitySeeds: expected 0 < low <= high, got low={low}, high={high}.")
        if crf is None and crf_args:
            raise RecipeError("AffinitySeeds: crf_args are given, but crf is null; name a CRF setting.")
        self.low = low
        self.high = high
        self.crf = None if crf is None else crf_parameters(crf, **(crf_args or {}))

    def __call__(
        self, image: npt.NDArray[np.uint8], *, maps: LocalizationMaps
    ) -> dict[str, LabelScores | npt.NDArray[np.uint8]]:
        """Score every pixel of one image twice.

        Args:
            image: uint8 `(H, W, 3)`, RGB.
            maps: maps of the classes present, of an image of this size.

        Returns:
            `scores_low` and `scores_high`: planes background and present classes at full size, CRF marginals
            (without a CRF the stack itself). `masks`: uint8 `(H, W)`, the labels of `scores_low`, to look at.

        Raises:
            DataError: image and maps are of different sizes.
        """
        require_same_size(image, maps)
        low, high = self._scores(image, maps.full_size())
        return {
            "scores_low": LabelScores.from_full_size(maps.classes, low),
            "scores_high": LabelScores.from_full_size(maps.classes, high),
            "masks": labels_from_scores(low, maps.classes),
        }

    def _scores(
        self, image: npt.NDArray[np.uint8], foreground: npt.NDArray[np.float32]
    ) -> list[npt.NDArray[np.float32]]:
        """Scores `(K + 1, H, W)` for the low and the high power."""
        stacks = [
            np.concatenate([background_power(foreground, alpha)[None], foreground])
            for alpha in (self.low, self.high)
        ]
        if self.crf is None:
            return stacks
        return crf_marginals(image, [unary_from_probabilities(stack) for stack in stacks], self.crf)
