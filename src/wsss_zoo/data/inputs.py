"""What other stages made of an image, read as arrays at the size of the image. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS, ROLES, Content, load_artifact
from wsss_zoo.artifacts.seeds import Seeds
from wsss_zoo.artifacts.subcategories import Subcategories
from wsss_zoo.data.images import values_outside
from wsss_zoo.errors import DataError

#: What is known of an image as a whole: nothing lies on its pixels.
OF_WHOLE_IMAGES: tuple[Content, ...] = ("features", "sub-categories")
#: What lies on a grid of its own over the whole image: mirrored with the image, never resized or cropped.
ON_OWN_GRID: tuple[Content, ...] = ("seeds",)


def input_extension(role: str) -> str:
    """The file name extension of what a role reads."""
    return next(kind.extension for kind in ARTIFACT_KINDS.values() if kind.content == ROLES[role])


class Planes(NamedTuple):
    """What an artifact says about an image, at the size of the image.

    Attributes:
        values: `(H, W)` of masks (uint8) and grey maps (float32 in [0, 1]); `(K, H, W)` float32 of
            localization maps and `(K + 1, H, W)` of label scores, for the classes present alone; `(2, H, W)`
            float32 of differences, logits.
        rows: which planes of a dense `(C, H, W)` or `(C + 1, H, W)` array these are; None for `(H, W)`.
    """

    values: npt.NDArray[Any]
    rows: npt.NDArray[np.intp] | None

    def dense(self, num_planes: int) -> npt.NDArray[Any]:
        """The values with planes of 0 for absent classes: `(num_planes, H, W)`; `(H, W)` as it is."""
        if self.rows is None:
            return self.values
        dense = np.zeros((num_planes, *self.values.shape[1:]), dtype=self.values.dtype)
        dense[self.rows] = self.values
        return dense


def num_planes(role: str, num_classes: int) -> int:
    """Planes of a dense array: C of localization maps, C + 1 of label scores, 2 of differences."""
    return 2 if ROLES[role] == "differences" else num_classes + (ROLES[role] == "label scores")


def read_input(
    role: str, folder: str | os.PathLike[str], image_id: str, num_classes: int, size: Sequence[int]
) -> Planes:
    """Read the artifact of one image.

    Args:
        role: see `wsss_zoo.artifacts.kinds.ROLES`.
        folder: holds one file an image.
        image_id: name of the file.
        num_classes: C.
        size: `(H, W)` of the image.

    Raises:
        ArtifactError: the file is missing or broken.
        DataError: it belongs to an image of another size or to other classes.
    """
    path = Path(folder) / f"{image_id}{input_extension(role)}"
    content = ROLES[role]
    if content in OF_WHOLE_IMAGES:
        raise DataError(f"inputs.{role}: {content} belong to whole images and have no value for each pixel.")
    if content in ON_OWN_GRID:
        raise DataError(
            f"inputs.{role}: {content} lie on a grid of their own and have no value for each pixel."
        )
    artifact = load_artifact(content, path)
    flat = content in ("masks", "grey maps")
    found = artifact.shape if flat else artifact.size
    if tuple(found) != tuple(size):
        raise DataError(
            f"{path}: it was made for an image of {_size(found)}, but {image_id} is {_size(size)} "
            "(width x height). Make it anew from this image."
        )
    if content == "masks":
        # unseen, such a value ends in an assertion on the GPU that names nothing
        outside = values_outside(artifact, num_classes)
        highest = f"labels 0..{num_classes} and 255, found also {outside[:8]}"
    else:
        classless = flat or content == "differences"
        outside = [] if classless else [index for index in artifact.classes.tolist() if index >= num_classes]
        highest = f"class indices 0..{num_classes - 1}, found also {outside[:8]}"
    if outside:
        raise DataError(f"{path}: expected {highest}. Was it made for other classes?")
    if flat:
        return Planes(artifact, None)
    if content == "differences":
        return Planes(artifact.full_size(), np.arange(2))
    rows = artifact.classes.astype(np.intp)
    if content == "label scores":
        rows = np.concatenate([[0], rows + 1])
    return Planes(artifact.full_size(), rows)


def read_subcategories(
    folder: str | os.PathLike[str], image_id: str, labels: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Read the sub-categories of one image as labels of a classifier.

    Args:
        folder: holds one file an image.
        image_id: name of the file.
        labels: the image-level label `(C,)`, multi-hot.

    Returns:
        float32 `(C*K,)`, multi-hot: column `c * K + k` is sub-category k of class c.

    Raises:
        ArtifactError: the file is missing or broken.
        DataError: it was made for other image-level labels.
    """
    path = Path(folder) / f"{image_id}{input_extension('subcategories')}"
    subcategories = Subcategories.load(path)
    present = np.flatnonzero(labels > 0)
    if not np.array_equal(subcategories.classes, present):
        raise DataError(
            f"{path}: it holds sub-categories of the classes {subcategories.classes.tolist()}, but "
            f"{image_id} is labelled {present.tolist()}. Cluster these images anew."
        )
    return subcategories.multi_hot(len(labels))


def read_seeds(
    folder: str | os.PathLike[str], image_id: str, labels: npt.NDArray[np.float32], size: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Read the seeds of one image.

    Args:
        folder: holds one file an image.
        image_id: name of the file.
        labels: the image-level label `(C,)`, multi-hot.
        size: `(H, W)` of the image.

    Returns:
        bool `(C + 1, h, w)` on the grid of the file, background first.

    Raises:
        ArtifactError: the file is missing or broken.
        DataError: it belongs to an image of another size, or has seeds of classes that the image is not
            labelled with.
    """
    path = Path(folder) / f"{image_id}{input_extension('seeds')}"
    seeds = Seeds.load(path)
    if seeds.size != tuple(size):
        raise DataError(
            f"{path}: it was made for an image of {_size(seeds.size)}, but {image_id} is {_size(size)} "
            "(width x height). Make it anew from this image."
        )
    present = np.flatnonzero(labels > 0)
    if not set(seeds.classes.tolist()) <= set(present.tolist()):
        raise DataError(
            f"{path}: it holds seeds of the classes {seeds.classes.tolist()}, but {image_id} is labelled "
            f"{present.tolist()}. Make the seeds anew from these labels."
        )
    return seeds.dense(len(labels))


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"
