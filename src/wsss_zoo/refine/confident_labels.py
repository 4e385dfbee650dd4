"""Labels where maps are sure of foreground or of background, and nothing in between (IRN)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.errors import RecipeError
from wsss_zoo.refine.background import background_threshold, labels_from_scores
from wsss_zoo.refine.crf_parameters import crf_parameters
from wsss_zoo.refine.mean_field import crf_marginals, unary_from_labels
from wsss_zoo.refine.pseudo_labels import IGNORE, require_same_size


class ConfidentLabels:
    """Two-threshold pseudo labels of IRN (Ahn, Cho & Kwak, CVPR 2019, section 3.3).

    Labels with a high background score are confident foreground F, labels with a low one confident
    background B; both are sharpened by the dense CRF on hard labels. The result is F, 0 where F and B are
    both background, 255 elsewhere.

    Args:
        foreground: background score above which foreground is trusted (IRN 0.30).
        background: background score below which background is trusted (IRN 0.05).
        crf: name of a setting in `CRF_PARAMETERS` with `gt_prob`, or None for no CRF.
        crf_args: fields of `CrfParameters` that replace the setting's.

    Raises:
        RecipeError: scores not in [0, 1] or in the wrong order, an unknown CRF setting or field, or a
            setting without `gt_prob`.
    """

    def __init__(
        self,
        foreground: float = 0.30,
        background: float = 0.05,
        crf: str | None = "irn",
        crf_args: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= background <= foreground <= 1:
            raise RecipeError(
                f"ConfidentLabels: expected 0 <= background <= foreground <= 1, "
                f"got background={background}, foreground={foreground}."
            )
        if crf is None and crf_args:
            raise RecipeError("ConfidentLabels: crf_args are given, but crf is null; name a CRF setting.")
        self.foreground = foreground
        self.background = background
        self.crf = None if crf is None else crf_parameters(crf, **(crf_args or {}))
        if self.crf is not None and self.crf.gt_prob is None:
            raise RecipeError(
                f"ConfidentLabels: the CRF runs on hard labels and '{crf}' states no confidence in them; "
                "add gt_prob (IRN 0.7) to crf_args."
            )

    def __call__(self, image: npt.NDArray[np.uint8], maps: LocalizationMaps) -> npt.NDArray[np.uint8]:
        """Label the confident pixels of one image.

        Args:
            image: uint8 `(H, W, 3)`, RGB.
            maps: maps of the classes present, of an image of this size.

        Returns:
            uint8 `(H, W)`: 0 background, class index + 1, 255 where neither is sure.

        Raises:
            DataError: image and maps are of different sizes.
        """
        require_same_size(image, maps)
        planes = maps.full_size()
        stacks = [
            np.concatenate([background_threshold(planes, score)[None], planes])
            for score in (self.foreground, self.background)
        ]
        if self.crf is not None and self.crf.gt_prob is not None:
            count, gt_prob = len(stacks[0]), self.crf.gt_prob
            unaries = [unary_from_labels(stack.argmax(axis=0), count, gt_prob) for stack in stacks]
            stacks = crf_marginals(image, unaries, self.crf)
        sure_foreground, sure_background = (labels_from_scores(stack, maps.classes) for stack in stacks)
        mask = np.where(sure_foreground == 0, np.uint8(IGNORE), sure_foreground)
        mask[(sure_foreground == 0) & (sure_background == 0)] = 0
        return mask
