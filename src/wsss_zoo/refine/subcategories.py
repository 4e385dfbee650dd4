"""Clusters inside the classes: sub-categories of image-level labels, found in image features (SC-CAM)."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError, RecipeError

_Ids = npt.NDArray[np.int16]


class KMeansInClasses:
    """K-means in every class by itself: Euclidean, k-means++ starts, the best of several runs.

    An image of several classes is clustered in each of them, always with the same feature of the whole image.
    Features are taken as they are: not normalised, not reduced (Chang et al., CVPR 2020).

    A class with fewer than K different features has fewer clusters: each different feature is one, numbered
    in the order in which it comes first. Equal features are always in one cluster.

    Args:
        k: clusters of every class, K.
        n_init: runs from different starts, of which the one with the least inertia is kept. scikit-learn's
            default was 10 when SC-CAM appeared and is 1 for k-means++ today, so it stands here.
        seed: fixes all starts.
        max_iter: most iterations of a run.
        engine: `sklearn`, on the CPU; or `torch`, the same algorithm from the same starts on the first GPU
            (without one on the CPU), for many features.

    Raises:
        RecipeError: a value is out of range.
    """

    def __init__(
        self,
        k: int = 10,
        n_init: int = 10,
        seed: int = 0,
        max_iter: int = 300,
        engine: Literal["sklearn", "torch"] = "sklearn",
    ) -> None:
        for name, value, least in (
            ("k", k, 1),
            ("n_init", n_init, 1),
            ("seed", seed, 0),
            ("max_iter", max_iter, 1),
        ):
            if value < least:
                raise RecipeError(f"KMeansInClasses: {name} is {least} or more, got {value}")
        if k > np.iinfo(np.int16).max:
            raise RecipeError(f"KMeansInClasses: k is at most {np.iinfo(np.int16).max}, got {k}")
        if engine not in ("sklearn", "torch"):
            raise RecipeError(f"KMeansInClasses: engine is 'sklearn' or 'torch', got {engine!r}")
        self.k = k
        self.n_init = n_init
        self.seed = seed
        self.max_iter = max_iter
        self.engine = engine

    def __call__(self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]) -> list[_Ids]:
        """Cluster the images of every class.

        Args:
            features: `(N, D)`, one row an image.
            labels: `(N, C)`, above 0 where a class is present.

        Returns:
            For each class int16 `(n_c,)`: the clusters 0..K-1 of its images in the order of the rows; empty
            for a class without images.

        Raises:
            DataError: shapes do not fit, or a feature is not finite.
        """
        if features.ndim != 2 or labels.ndim != 2 or len(features) != len(labels):
            raise DataError(
                "clustering: expected features (N, D) and labels (N, C), got "
                f"{features.shape}, {labels.shape}"
            )
        if not np.isfinite(features).all():
            row = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
            raise DataError(
                f"clustering: the feature of row {row} holds NaN or infinity; the network that made it has "
                "diverged"
            )
        return [self._cluster(features[labels[:, index] > 0]) for index in range(labels.shape[1])]

    def _cluster(self, rows: npt.NDArray[np.float32]) -> _Ids:
        numbers: dict[bytes, int] = {}
        # + 0.0 turns -0.0 into 0.0, which have other bytes
        different = [numbers.setdefault(row.tobytes(), len(numbers)) for row in rows + 0.0]
        if len(numbers) <= self.k:
            return np.array(different, dtype=np.int16)
        if self.engine == "torch":
            from wsss_zoo.refine.kmeans import kmeans

            return kmeans(rows, self.k, self.n_init, self.seed, self.max_iter).astype(np.int16)
        from sklearn.cluster import KMeans

        estimator = KMeans(
            self.k, init="k-means++", n_init=self.n_init, max_iter=self.max_iter, random_state=self.seed
        )
        return estimator.fit_predict(rows).astype(np.int16)


def inertia(rows: npt.NDArray[np.floating], clusters: npt.NDArray[np.integer]) -> float:
    """Sum over the rows of the squared distance to the mean of their cluster; what k-means minimises.

    Args:
        rows: `(n, D)`.
        clusters: `(n,)`.
    """
    return float((distances_to_centre(rows, clusters) ** 2).sum())


def distances_to_centre(
    rows: npt.NDArray[np.floating], clusters: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Distance of every row to the mean of its cluster: small for typical ones.

    Args:
        rows: `(n, D)`.
        clusters: `(n,)`.
    """
    distances = np.zeros(len(rows))
    for cluster in np.unique(clusters):
        members = rows[clusters == cluster].astype(np.float64)
        distances[clusters == cluster] = np.linalg.norm(members - members.mean(0), axis=1)
    return distances
