"""Seeds of an image: the few pixels whose label is trusted, on the grid of a segmentation network."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.npz import REGENERATE, classes_fault, image_size, load_arrays, save_arrays
from wsss_zoo.errors import ArtifactError

_KEYS = ("classes", "seeds", "size")


@dataclass(frozen=True, eq=False)
class Seeds:
    """Localization cues of SEC, DSRG and FickleNet: one plane for background, one for each class present.

    A pixel may be a seed of no class, of one, or of several.

    Attributes:
        classes: int16 `(K,)`, 0-based foreground class indices, ascending. K may be 0.
        seeds: bool `(K + 1, h, w)`, plane 0 background, then the classes in order. The grid lies over the
            whole image and is that of the score map of the network to be trained (41 x 41 for images
            squashed to 321 x 321): it has nothing to do with the image's aspect.
        size: `(H, W)` of the original image in pixels.

    Raises:
        ArtifactError: types, shapes or values other than these.
    """

    classes: npt.NDArray[np.int16]
    seeds: npt.NDArray[np.bool_]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        complaint = classes_fault(self.classes) or _seeds_fault(self.seeds, len(self.classes))
        if complaint:
            raise ArtifactError(f"seeds: {complaint}.")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns `(h, w)` of the grid."""
        return self.seeds.shape[1], self.seeds.shape[2]

    def dense(self, num_classes: int) -> npt.NDArray[np.bool_]:
        """Planes of all C classes: bool `(C + 1, h, w)`, absent ones without a seed."""
        dense = np.zeros((num_classes + 1, *self.grid), dtype=bool)
        dense[0] = self.seeds[0]
        dense[self.classes.astype(np.intp) + 1] = self.seeds[1:]
        return dense

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` with the keys ``classes``, ``seeds`` and ``size``, atomically.

        Raises:
            ArtifactError: the file could not be written.
        """
        size = np.asarray(self.size, dtype=np.int32)
        save_arrays(path, classes=self.classes, seeds=self.seeds, size=size)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Seeds:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            ArtifactError: the file is missing, truncated, or holds anything else.
        """
        arrays: dict[str, Any] = load_arrays(path, _KEYS, "seeds")
        size = image_size(path, arrays["size"])
        try:
            return cls(arrays["classes"], arrays["seeds"], size)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error} {REGENERATE}") from error


def _seeds_fault(seeds: npt.NDArray[Any], count: int) -> str | None:
    if seeds.dtype != np.bool_ or seeds.ndim != 3 or len(seeds) != count + 1 or seeds.size == 0:
        return f"seeds are bool (K + 1, h, w) with K={count}, got {seeds.dtype} {seeds.shape}"
    return None
