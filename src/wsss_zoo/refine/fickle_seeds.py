"""FickleNet's seeds: what any of many maps shows, and background where nothing stands out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.seeds import Seeds
from wsss_zoo.errors import DataError
from wsss_zoo.refine.pseudo_labels import require_same_size
from wsss_zoo.refine.seed_grid import maps_on_grid, require_grid, require_shares, saliency_on_grid, seeds_mask


class FickleSeeds:
    """Seeds of classes and of background (Lee et al., FickleNet, CVPR 2019, section 3.3).

    A cell belongs to a class if any of the image's N maps is above the threshold there; of several classes
    that claim it, the one with the highest average map gets it. A cell is background where its saliency, over
    the largest of the image, is low (as in DSRG, which took DRFI's maps; the published numbers use them,
    too). What neither holds for has no seed.

    Without saliency maps a cell is background where even the highest of all maps of all classes is low. This
    fallback is not published: it finds background far from the classes and says nothing of what else stands
    out.

    Args:
        threshold: of the N maps, each over its own maximum (published: 0.35).
        background_saliency: a cell with less, as a part of the image's largest, is background (0.06, of DRFI;
            other saliency models want other values).
        background_map: without saliency maps: a cell where `maps_max` of all classes is below is background.
        foreground_wins: a cell that is claimed by a class and by background goes to the class; otherwise to
            background.
        grid: `(h, w)` of the seeds, that of the segmentation network's score map (41 x 41 for 321 pixels).

    Raises:
        RecipeError: a value is out of range.
    """

    #: What a call returns, by kind.
    outputs = ("masks", "seeds")

    def __init__(
        self,
        threshold: float = 0.35,
        background_saliency: float = 0.06,
        background_map: float = 0.1,
        foreground_wins: bool = True,
        grid: tuple[int, int] = (41, 41),
    ) -> None:
        require_shares(
            "FickleSeeds",
            threshold=threshold,
            background_saliency=background_saliency,
            background_map=background_map,
        )
        self.threshold = threshold
        self.background_saliency = background_saliency
        self.background_map = background_map
        self.foreground_wins = foreground_wins
        self.grid = require_grid("FickleSeeds", grid)

    def __call__(
        self,
        image: npt.NDArray[np.uint8],
        *,
        maps: LocalizationMaps,
        maps_max: LocalizationMaps,
        saliency: npt.NDArray[np.float32] | None = None,
    ) -> dict[str, Seeds | npt.NDArray[np.uint8]]:
        """Find the seeds of one image.

        Maps are resized to the grid before they are compared with the threshold (bilinear, half-pixel),
        saliency is averaged over the cells.

        Args:
            image: uint8 `(H, W, 3)`; only its size is used.
            maps: the average of the N maps, of the classes present.
            maps_max: their maximum.
            saliency: float32 `(H, W)` in [0, 1]; None: see the class.

        Returns:
            `seeds`: at most one seed a cell; `masks`: uint8 `(H, W)`, the same by nearest neighbour,
            0 background, class index + 1, 255 where there is no seed.

        Raises:
            DataError: image, maps and saliency are of different sizes, or maps of different classes.
        """
        for one in (maps, maps_max):
            require_same_size(image, one)
        if not np.array_equal(maps.classes, maps_max.classes):
            raise DataError(
                f"maps are of the classes {maps.classes.tolist()}, maps_max of {maps_max.classes.tolist()}; "
                "take both from one stage."
            )
        mean, highest = (maps_on_grid(one.maps, self.grid) for one in (maps, maps_max))
        if saliency is None:
            background = highest.max(axis=0, initial=0) < self.background_map
        else:
            background = saliency_on_grid(saliency, maps.size, self.grid) < self.background_saliency
        claims = highest > self.threshold
        claimed = claims.any(axis=0)
        if self.foreground_wins:
            background &= ~claimed
        else:
            claimed &= ~background
        planes = np.zeros((len(maps.classes) + 1, *self.grid), dtype=bool)
        planes[0] = background
        if len(maps.classes):
            winner = np.where(claims, mean, -1).argmax(axis=0)
            planes[1:] = claimed & (winner == np.arange(len(maps.classes))[:, None, None])
        seeds = Seeds(maps.classes, planes, maps.size)
        return {"masks": seeds_mask(seeds), "seeds": seeds}
