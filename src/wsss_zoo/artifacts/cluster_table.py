"""The sub-categories of all images that were clustered together, in one file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.npz import REGENERATE, load_arrays, save_arrays
from wsss_zoo.errors import ArtifactError

_KEYS = ("image_ids", "classes", "subcategories", "distances")


@dataclass(frozen=True, eq=False)
class ClusterTable:
    """One row an image that has a class.

    Attributes:
        image_ids: N names.
        classes: `(N, C)`, 1 where a class is present, else 0.
        subcategories: `(N, C*K)`, one 1 for each class present: column `c * K + k` is sub-category k of
            class c.
        distances: float32 `(N, C)`, of the image's feature to the mean of its cluster; 0 for absent classes.

    Raises:
        ArtifactError: shapes do not fit, or a class present has not exactly one sub-category.
    """

    image_ids: tuple[str, ...]
    classes: npt.NDArray[Any]
    subcategories: npt.NDArray[Any]
    distances: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        if self.classes.ndim != 2 or len(self.classes) != count or self.distances.shape != self.classes.shape:
            raise ArtifactError(
                f"clusters: expected classes and distances ({count}, C), got {self.classes.shape} and "
                f"{self.distances.shape}."
            )
        columns = self.subcategories.shape[-1]
        if self.subcategories.shape != (count, columns) or columns % self.num_classes or not columns:
            raise ArtifactError(
                f"clusters: expected subcategories ({count}, {self.num_classes} * K), got "
                f"{self.subcategories.shape}."
            )
        if not np.array_equal(self._grouped.sum(2), self.classes != 0):
            raise ArtifactError("clusters: each class present has one sub-category, each absent one none.")

    @property
    def num_classes(self) -> int:
        """C."""
        return self.classes.shape[1]

    @property
    def k(self) -> int:
        """Sub-categories of every class, K."""
        return self.subcategories.shape[1] // self.num_classes

    @property
    def clusters(self) -> npt.NDArray[np.int16]:
        """int16 `(N, C)`: the sub-category 0..K-1 of each class, -1 where it is absent."""
        return np.where(self.classes != 0, self._grouped.argmax(2), -1).astype(np.int16)

    @property
    def _grouped(self) -> npt.NDArray[Any]:
        return self.subcategories.reshape(len(self.image_ids), self.num_classes, -1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` with the attributes as keys, atomically.

        Raises:
            ArtifactError: the file could not be written.
        """
        save_arrays(
            path,
            image_ids=np.asarray(self.image_ids, dtype=np.str_),
            classes=self.classes.astype(np.uint8),
            subcategories=self.subcategories.astype(np.uint8),
            distances=self.distances.astype(np.float32),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ClusterTable:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            ArtifactError: the file is missing, truncated, or holds anything else.
        """
        arrays: dict[str, Any] = load_arrays(path, _KEYS, "clusters")
        names = arrays.pop("image_ids")
        try:
            return cls(tuple(str(name) for name in names.ravel()), **arrays)
        except (ArtifactError, ValueError, IndexError) as error:
            raise ArtifactError(f"{path}: {error} {REGENERATE}") from error
