"""Maps, saliency and labels between an image and the grid on which seeds lie."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.resampling import resample_bilinear
from wsss_zoo.artifacts.seeds import Seeds
from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine.pseudo_labels import IGNORE


def require_grid(reader: str, grid: tuple[int, int]) -> tuple[int, int]:
    """Refuse what is no grid; `reader` is named in the message.

    Raises:
        RecipeError: it is not two numbers from 1.
    """
    if len(grid) != 2 or min(grid) < 1:
        raise RecipeError(f"{reader}: grid is [rows, columns], got {grid!r}.")
    return grid[0], grid[1]


def require_shares(reader: str, **values: float) -> None:
    """Refuse arguments that are no share of a whole; `reader` and the argument are named in the message.

    Raises:
        RecipeError: one lies outside [0, 1].
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise RecipeError(f"{reader}: {name} lies in [0, 1], got {value}.")


def maps_on_grid(maps: npt.NDArray[np.float16], grid: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Maps `(K, H, W)` at the centres of the cells (bilinear, half-pixel): `(K, h, w)`."""
    return maps.astype(np.float32) if maps.shape[1:] == grid else resample_bilinear(maps, grid)


def saliency_on_grid(
    saliency: npt.NDArray[np.float32], size: tuple[int, int], grid: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """A saliency map averaged over the cells, as a part of its largest cell: `(h, w)` in [0, 1].

    Args:
        saliency: `(H, W)` in [0, 1].
        size: of the image.
        grid: `(h, w)`.

    Raises:
        DataError: the saliency map is of another size than the image.
    """
    if saliency.shape != tuple(size):
        raise DataError(
            f"the image is {size[0]} x {size[1]} pixels, its saliency map {saliency.shape[0]} x "
            f"{saliency.shape[1]}; make it anew from this image."
        )
    cells = np.asarray(Image.fromarray(saliency).resize((grid[1], grid[0]), Image.Resampling.BOX))
    largest = float(cells.max())
    return (cells / largest).astype(np.float32) if largest > 0 else cells


def seeds_mask(seeds: Seeds) -> npt.NDArray[np.uint8]:
    """Labels at the size of the image; each pixel has the label of the cell that it lies in.

    Returns:
        uint8 `(H, W)`: 0 background, class index + 1, 255 where a cell has no seed or several.
    """
    values = np.array([0, *(seeds.classes + 1)], dtype=np.uint8)
    single = seeds.seeds.sum(axis=0) == 1
    labels = np.where(single, values[seeds.seeds.argmax(axis=0)], np.uint8(IGNORE))
    size = (seeds.size[1], seeds.size[0])
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))
