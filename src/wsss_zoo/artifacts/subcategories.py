"""Which kind of each class is in an image: the sub-categories that clustering inside the classes found."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.npz import REGENERATE, classes_fault, load_arrays, save_arrays
from wsss_zoo.errors import ArtifactError

_KEYS = ("classes", "clusters", "k")


@dataclass(frozen=True, eq=False)
class Subcategories:
    """The sub-categories of one image: one of K for each class present.

    Attributes:
        classes: int16 `(n,)`, 0-based foreground class indices, ascending. n may be 0.
        clusters: int16 `(n,)`, the sub-category of each in 0..K-1.
        k: sub-categories of every class, K.

    Raises:
        ArtifactError: types, shapes or values other than these.
    """

    classes: npt.NDArray[np.int16]
    clusters: npt.NDArray[np.int16]
    k: int

    def __post_init__(self) -> None:
        complaint = classes_fault(self.classes) or _clusters_fault(self.clusters, len(self.classes), self.k)
        if complaint:
            raise ArtifactError(f"sub-categories: {complaint}.")

    @property
    def columns(self) -> npt.NDArray[np.intp]:
        """Their places `(n,)` among the C*K sub-categories of all classes: `c * K + k`."""
        return self.classes.astype(np.intp) * self.k + self.clusters

    def multi_hot(self, num_classes: int) -> npt.NDArray[np.float32]:
        """float32 `(C*K,)` with one 1 for each class present.

        Args:
            num_classes: C, above every class index.
        """
        labels = np.zeros(num_classes * self.k, dtype=np.float32)
        labels[self.columns] = 1
        return labels

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` with the keys ``classes``, ``clusters`` and ``k``, atomically.

        Raises:
            ArtifactError: the file could not be written.
        """
        save_arrays(path, classes=self.classes, clusters=self.clusters, k=np.asarray(self.k, dtype=np.int32))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Subcategories:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            ArtifactError: the file is missing, truncated, or holds anything else.
        """
        arrays: dict[str, Any] = load_arrays(path, _KEYS, "sub-categories")
        k = arrays["k"]
        if k.shape != () or not np.issubdtype(k.dtype, np.integer):
            raise ArtifactError(f"{path}: k is one integer, got {k.dtype} {k.shape}. {REGENERATE}")
        try:
            return cls(arrays["classes"], arrays["clusters"], int(k))
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error} {REGENERATE}") from error


def _clusters_fault(clusters: npt.NDArray[Any], count: int, k: int) -> str | None:
    if k < 1:
        return f"k is 1 or more, got {k}"
    if clusters.dtype != np.int16 or clusters.shape != (count,):
        return f"clusters are int16 ({count},), one a class, got {clusters.dtype} {clusters.shape}"
    if count and not (clusters.min() >= 0 and clusters.max() < k):
        return f"clusters lie in 0..{k - 1}, got {clusters.tolist()}"
    return None
