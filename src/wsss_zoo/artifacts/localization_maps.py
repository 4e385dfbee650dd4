"""Localization maps of one image: which class is where, small enough to keep for a whole data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.npz import REGENERATE, classes_fault, image_size, load_arrays, save_arrays
from wsss_zoo.artifacts.resampling import reduce_bilinear, resample_bilinear
from wsss_zoo.errors import ArtifactError

# Methods that subtract a minimum or divide by (max + 1e-5) leave [0, 1] by rounding only.
_ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class LocalizationMaps:
    """The maps of the classes present in one image, kept at reduced size in half precision.

    At stride 4 the 10,582 images of VOC train_aug take well below 1 GB instead of 12 GB, and the mIoU
    moves by less than 0.05 points (``benchmarks/map_storage.py`` measures both).

    Attributes:
        classes: int16 `(K,)`, 0-based foreground class indices, ascending. The label value in a mask
            is the index + 1. K may be 0.
        maps: float16 `(K, h, w)` in [0, 1].
        size: `(H, W)` of the original image in pixels.

    Raises:
        ArtifactError: types, shapes or values other than these.
    """

    classes: npt.NDArray[np.int16]
    maps: npt.NDArray[np.float16]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        complaint = _first_fault(self.classes, self.maps, self.size)
        if complaint:
            raise ArtifactError(f"localization maps: {complaint}.")

    @classmethod
    def from_full_size(
        cls, classes: npt.ArrayLike, maps: npt.NDArray[np.floating], stride: int = 4
    ) -> LocalizationMaps:
        """Reduce full-size maps for storage.

        Stored are the values that come closest to `maps` once `full_size` enlarges them (least squares).
        Sampling the cells' centres or averaging over cells cost at least 8 times as much mIoU
        (``benchmarks/map_storage.py``).

        Args:
            classes: integers `(K,)`, 0-based foreground class indices, ascending.
            maps: float `(K, H, W)` in [0, 1]; excess by rounding (up to 1e-4) is clipped.
            stride: pixels of the image for one stored value; 1 keeps the full size.

        Returns:
            Maps of size `ceil(H / stride) x ceil(W / stride)`.

        Raises:
            ArtifactError: wrong shapes, classes not ascending, values outside [0, 1] or not finite.
        """
        if maps.ndim != 3 or 0 in maps.shape[1:] or stride < 1:
            raise ArtifactError(
                f"localization maps: expected (K, H, W) and a stride of at least 1, "
                f"got {maps.shape} and {stride}."
            )
        height, width = maps.shape[1:]
        if maps.size:
            low, high = float(maps.min()), float(maps.max())
            if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # this way round NaN is refused, too
                raise ArtifactError(f"localization maps: values lie in [0, 1], got {low:g} to {high:g}.")
        small = reduce_bilinear(maps, (-(-height // stride), -(-width // stride)))
        return cls(
            classes=np.asarray(classes, dtype=np.int16),
            maps=np.clip(small, 0, 1).astype(np.float16),
            size=(height, width),
        )

    def full_size(self) -> npt.NDArray[np.float32]:
        """Enlarge the maps to the size of the image.

        Returns:
            float32 `(K, H, W)` in [0, 1]; bilinear with half-pixel centres (`align_corners=False`).
        """
        return resample_bilinear(self.maps, self.size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` with the keys ``classes``, ``maps`` and ``size``, atomically.

        Raises:
            ArtifactError: the file could not be written.
        """
        size = np.asarray(self.size, dtype=np.int32)
        save_arrays(path, classes=self.classes, maps=self.maps, size=size)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LocalizationMaps:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            ArtifactError: the file is missing, truncated, or holds anything else.
        """
        arrays: dict[str, Any] = load_arrays(path, ("classes", "maps", "size"), "localization maps")
        size = image_size(path, arrays["size"])
        try:
            return cls(arrays["classes"], arrays["maps"], size)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error} {REGENERATE}") from error


def _first_fault(
    classes: npt.NDArray[np.generic], maps: npt.NDArray[np.generic], size: tuple[int, int]
) -> str | None:
    """Say what is wrong with the parts of localization maps, or None."""
    if fault := classes_fault(classes):
        return fault
    if maps.dtype != np.float16 or maps.ndim != 3 or len(maps) != len(classes):
        return f"maps are float16 (K, h, w) with K={len(classes)}, got {maps.dtype} {maps.shape}"
    height, width = size
    if not (0 < maps.shape[1] <= height and 0 < maps.shape[2] <= width):
        return f"maps are not larger than the image, got maps {maps.shape[1:]} for size {(height, width)}"
    if maps.size:
        low, high = float(maps.min()), float(maps.max())
        if not (low >= 0 and high <= 1):
            return f"values lie in [0, 1], got {low:g} to {high:g}"
    return None
