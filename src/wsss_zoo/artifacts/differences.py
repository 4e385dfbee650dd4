"""Predicted differences of an image: how far each of two masks is to be doubted, pixel by pixel."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.npz import REGENERATE, image_size, load_arrays, save_arrays
from wsss_zoo.artifacts.resampling import resample_bilinear
from wsss_zoo.errors import ArtifactError

_KEYS = ("before", "after", "size")
#: Logits are clipped to this: the sigmoid of 30 is 1 in single precision.
_LIMIT = 30.0


@dataclass(frozen=True, eq=False)
class Differences:
    """Logits of SSDD's difference detector: where it expects a mapping to change a mask.

    Attributes:
        before: float16 `(h, w)`, predicted from the mask before the mapping; its sigmoid is a probability.
            The grid lies over the whole image and has nothing to do with the image's aspect.
        after: float16 `(h, w)`, predicted from the mask after it.
        size: `(H, W)` of the original image in pixels.

    Raises:
        ArtifactError: types, shapes or values other than these.
    """

    before: npt.NDArray[np.float16]
    after: npt.NDArray[np.float16]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("before", "after"):
            logits = getattr(self, name)
            if logits.dtype != np.float16 or logits.ndim != 2 or logits.size == 0:
                raise ArtifactError(
                    f"differences: {name} is float16 (h, w), got {logits.dtype} {logits.shape}."
                )
            if not np.isfinite(logits).all():
                raise ArtifactError(f"differences: {name} holds NaN or infinity.")
        if self.before.shape != self.after.shape:
            raise ArtifactError(
                f"differences: both have one grid, got {self.before.shape} and {self.after.shape}."
            )

    @classmethod
    def from_logits(
        cls, before: npt.NDArray[np.floating], after: npt.NDArray[np.floating], size: tuple[int, int]
    ) -> Differences:
        """Prepare logits `(h, w)` for storage; beyond ±30 they are clipped."""
        clipped = [np.clip(logits, -_LIMIT, _LIMIT).astype(np.float16) for logits in (before, after)]
        return cls(clipped[0], clipped[1], size)

    def full_size(self) -> npt.NDArray[np.float32]:
        """Logits `(2, H, W)` at the size of the image, `before` first; bilinear with half-pixel centres."""
        return resample_bilinear(np.stack([self.before, self.after]), self.size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a compressed ``.npz`` with the keys ``before``, ``after`` and ``size``, atomically.

        Raises:
            ArtifactError: the file could not be written.
        """
        size = np.asarray(self.size, dtype=np.int32)
        save_arrays(path, before=self.before, after=self.after, size=size)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Differences:
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            ArtifactError: the file is missing, truncated, or holds anything else.
        """
        arrays: dict[str, Any] = load_arrays(path, _KEYS, "differences")
        size = image_size(path, arrays["size"])
        try:
            return cls(arrays["before"], arrays["after"], size)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error} {REGENERATE}") from error
