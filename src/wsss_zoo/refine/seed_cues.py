"""SEC's and DSRG's seeds: the strongest part of each class's localization map, and what is not salient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.seeds import Seeds
from wsss_zoo.refine.pseudo_labels import require_same_size
from wsss_zoo.refine.seed_grid import maps_on_grid, require_grid, require_shares, saliency_on_grid, seeds_mask


class SeedCues:
    """Seeds from localization maps (Kolesnikov & Lampert, SEC, ECCV 2016; Huang et al., DSRG, CVPR 2018).

    A cell is a seed of each class whose map is above a share of its own maximum there, so that it may be one
    of several classes. It is background where its saliency, as a part of the image's largest, is low (DSRG,
    with maps of DRFI).

    Without saliency maps the cells with the lowest strongest map are background. SEC takes the same share,
    but of a gradient map of a second network; this stand-in is not published.

    Args:
        threshold: share of a class map's maximum above which it gives seeds.
        background_saliency: with saliency maps: cells with less are background.
        background_share: without: the share of cells that are background, in [0, 1]; cells that are equally
            low all are.
        foreground_wins: a cell of a class and of background is not background; otherwise it is both.
        grid: `(h, w)` of the seeds, that of the segmentation network's score map (41 x 41 for 321 pixels).

    Raises:
        RecipeError: a value is out of range.
    """

    #: What a call returns, by kind.
    outputs = ("masks", "seeds")

    def __init__(
        self,
        threshold: float = 0.2,
        background_saliency: float = 0.06,
        background_share: float = 0.1,
        foreground_wins: bool = True,
        grid: tuple[int, int] = (41, 41),
    ) -> None:
        require_shares(
            "SeedCues",
            threshold=threshold,
            background_saliency=background_saliency,
            background_share=background_share,
        )
        self.threshold = threshold
        self.background_saliency = background_saliency
        self.background_share = background_share
        self.foreground_wins = foreground_wins
        self.grid = require_grid("SeedCues", grid)

    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        *,
        maps: LocalizationMaps,
        saliency: npt.NDArray[np.float32] | None = None,
    ) -> dict[str, Seeds | npt.NDArray[np.uint8]]:
        """Find the seeds of one image.

        Args:
            image: uint8 `(H, W, 3)`; only its size is used.
            maps: of the classes present; resized to the grid before they are compared with the threshold.
            saliency: float32 `(H, W)` in [0, 1]; None: see the class.

        Returns:
            `seeds`; `masks`: uint8 `(H, W)`, the same by nearest neighbour, 0 background, class index + 1,
            255 where there is no seed or several.

        Raises:
            DataError: image, maps and saliency are of different sizes.
        """
        require_same_size(image, maps)
        cells = maps_on_grid(maps.maps, self.grid)
        largest = cells.max(axis=(1, 2), keepdims=True)
        # what shows a class nowhere (maximum 0) is above nothing
        foreground = cells > self.threshold * largest
        if saliency is None:
            strongest = cells.max(axis=0, initial=0)
            background = strongest <= np.quantile(strongest, self.background_share)
        else:
            background = saliency_on_grid(saliency, maps.size, self.grid) < self.background_saliency
        if self.foreground_wins:
            background &= ~foreground.any(axis=0)
        seeds = Seeds(maps.classes, np.concatenate([background[None], foreground]), maps.size)
        return {"masks": seeds_mask(seeds), "seeds": seeds}
