"""Scores of background and of the classes present in one image, pixel by pixel: soft pseudo labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.npz import REGENERATE, classes_fault, image_size, load_arrays, save_arrays
from wsss_zoo.artifacts.resampling import reduce_bilinear, resample_bilinear
from wsss_zoo.errors import ArtifactError

_KEYS = ("classes", "scores", "size")


@dataclass(frozen=True, eq=False)
class LabelScores:
    """CRF marginals or the result of a random walk: one plane for background, one for each class present.

    Attributes:
        classes: int16 `(K,)`, 0-based foreground class indices, ascending. K may be 0.
        scores: `(K + 1, h, w)`, plane 0 background, then the classes in order; float16 in [0, 1], or uint8
            as multiples of 1/255 (marginals are mostly 0 or 1: at full size 8 bits take a tenth of the
            space and lose nothing that an argmax sees). Planes need not sum to 1.
        size: `(H, W)` of the original image in pixels.

    Raises:
        ArtifactError: types, shapes or values other than these.
    """

    classes: npt.NDArray[np.int16]
    scores: npt.NDArray[np.float16] | npt.NDArray[np.uint8]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        complaint = classes_fault(self.classes) or _scores_fault(self.scores, len(self.classes), self.size)
        if complaint:
            raise ArtifactError(f"label scores: {complaint}.")

    @classmethod
    def from_full_size(
        cls, classes: npt.ArrayLike, scores: npt.NDArray[np.floating], stride: int = 1
    ) -> LabelScores:
        """Prepare full-size scores for storage.

        Args:
            classes: integers `(K,)`, 0-based foreground class indices, ascending.
            scores: float `(K + 1, H, W)` in [0, 1]; clipped to it.
            stride: 1 keeps the full size in 8 bits; above, maps are reduced as in
                `LocalizationMaps.from_full_size` and kept in half precision.
        """
        height, width = scores.shape[1:]
        if not np.isfinite(scores).all():
            raise ArtifactError("label scores: values lie in [0, 1], got NaN or infinity.")
        stored: npt.NDArray[Any]
        if stride == 1:
            stored = np.rint(np.clip(scores, 0, 1) * 255).astype(np.uint8)
        else:
            small = reduce_bilinear(scores, (-(-height // stride), -(-width // stride)))
            stored = np.clip(small, 0, 1).astype(np.float16)
        return cls(np.asarray(classes, dtype=np.int16), stored, (height, width))

    def full_size(self) -> npt.NDArray[np.float32]:
        """Scores at the size of the image.

        Returns:
            float32 `(K + 1, H, W)` in [0, 1]; bilinear with half-pixel centres where they were reduced.
        """
        scores = self.scores.astype(np.float32)
        if self.scores.dtype == np.uint8:
            scores /= np.float32(255)
        return scores if scores.shape[1:] == self.size else resample_bilinear(scores, self.size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` with the keys ``classes``, ``scores`` and ``size``, atomically.

        Raises:
            ArtifactError: the file could not be written.
        """
        size = np.asarray(self.size, dtype=np.int32)
        save_arrays(path, classes=self.classes, scores=self.scores, size=size)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LabelScores:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            ArtifactError: the file is missing, truncated, or holds anything else.
        """
        arrays: dict[str, Any] = load_arrays(path, _KEYS, "label scores")
        size = image_size(path, arrays["size"])
        try:
            return cls(arrays["classes"], arrays["scores"], size)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error} {REGENERATE}") from error


def _scores_fault(scores: npt.NDArray[Any], count: int, size: tuple[int, int]) -> str | None:
    if scores.dtype not in (np.float16, np.uint8) or scores.ndim != 3 or len(scores) != count + 1:
        return f"scores are float16 or uint8 (K + 1, h, w) with K={count}, got {scores.dtype} {scores.shape}"
    height, width = size
    if not (0 < scores.shape[1] <= height and 0 < scores.shape[2] <= width):
        return f"scores are not larger than the image, got {scores.shape[1:]} for size {size}"
    if scores.dtype == np.float16:
        low, high = float(scores.min()), float(scores.max())
        if not (low >= 0 and high <= 1):
            return f"values lie in [0, 1], got {low:g} to {high:g}"
    return None
