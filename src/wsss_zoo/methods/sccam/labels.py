"""From clusters inside the classes to labels of a classifier, in the official order. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError


class AssembledLabels(NamedTuple):
    """One row an image, as the official release saves them: class by class, each image where it comes first.

    Attributes:
        image_ids: the M images that have a class.
        subcategories: float32 `(M, C*K)`, one 1 for each class present: column `c * K + k` is cluster k of
            class c.
        classes: float32 `(M, C)`, multi-hot.
    """

    image_ids: tuple[str, ...]
    subcategories: npt.NDArray[np.float32]
    classes: npt.NDArray[np.float32]


def rows_of_classes(labels: npt.ArrayLike) -> list[npt.NDArray[np.intp]]:
    """The images of every class, in list order: what is clustered together.

    Args:
        labels: `(N, C)`, above 0 where a class is present.

    Returns:
        C arrays of row indices; an image of several classes is in several of them.
    """
    return [np.flatnonzero(column > 0) for column in np.asarray(labels).T]


def assemble_labels(
    image_ids: Sequence[str], labels: npt.ArrayLike, clusters: Sequence[npt.ArrayLike], k: int
) -> AssembledLabels:
    """Sub-category labels of images from the clusters inside the classes.

    Every occurrence of a class in an image is a one-hot vector over all C*K sub-categories; the vectors of an
    image are summed. Rows stand in the order in which images come first when one goes through class 0, then
    class 1, ..., inside a class in list order; images without any class have no row.

    Args:
        image_ids: N names, each once, in list order.
        labels: `(N, C)`, above 0 where a class is present.
        clusters: for each class the clusters 0..K-1 of its images, in list order (see `rows_of_classes`).
        k: clusters of every class, K; a class may use fewer.

    Raises:
        DataError: a name comes twice, or clusters do not fit the labels.
    """
    present = np.asarray(labels) > 0
    if present.ndim != 2 or len(present) != len(image_ids):
        raise DataError(f"labels: expected ({len(image_ids)}, C), one row an image, got {present.shape}")
    if len(set(image_ids)) != len(image_ids):
        twice = next(name for index, name in enumerate(image_ids) if name in image_ids[:index])
        raise DataError(f"image_ids: {twice!r} comes twice; an image has one row")
    num_classes = present.shape[1]
    if len(clusters) != num_classes:
        raise DataError(f"clusters: expected one array a class ({num_classes}), got {len(clusters)}")
    summed = np.zeros((len(image_ids), num_classes * k), dtype=np.float32)
    rows = rows_of_classes(present)
    for index, (members, given) in enumerate(zip(rows, clusters, strict=True)):
        ids = np.asarray(given, dtype=np.int64)
        if ids.shape != members.shape:
            raise DataError(
                f"clusters[{index}]: the class has {len(members)} images, got clusters of shape {ids.shape}"
            )
        if len(ids) and not (ids.min() >= 0 and ids.max() < k):
            raise DataError(f"clusters[{index}]: expected 0..{k - 1}, got {ids.min()}..{ids.max()}")
        summed[members, index * k + ids] += 1
    # a dictionary keeps the first place of each key
    order = list(dict.fromkeys(np.concatenate([*rows, np.zeros(0, np.intp)]).tolist()))
    return AssembledLabels(
        tuple(image_ids[row] for row in order), summed[order], present[order].astype(np.float32)
    )
