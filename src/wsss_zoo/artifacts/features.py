"""One image as a network sees it as a whole: its feature vector."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.npz import REGENERATE, load_arrays, save_arrays
from wsss_zoo.errors import ArtifactError

_KEY = "features"


def save_features(path: str | os.PathLike[str], features: npt.NDArray[np.float32]) -> None:
    """Write a feature vector float32 `(D,)` as a compressed ``.npz`` with the key ``features``, atomically.

    Raises:
        ArtifactError: it is no finite float32 vector, or the file could not be written.
    """
    if fault := _fault(features):
        raise ArtifactError(f"{path}: {fault}.")
    save_arrays(path, **{_KEY: features})


def load_features(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Read what `save_features` wrote: float32 `(D,)`.

    Raises:
        ArtifactError: the file is missing, truncated, or holds anything else.
    """
    features: npt.NDArray[Any] = load_arrays(path, (_KEY,), "features of an image")[_KEY]
    if fault := _fault(features):
        raise ArtifactError(f"{path}: {fault}. {REGENERATE}")
    return features


def _fault(features: npt.NDArray[Any]) -> str | None:
    if features.dtype != np.float32 or features.ndim != 1 or not len(features):
        return f"features are float32 (D,), got {features.dtype} {features.shape}"
    if not np.isfinite(features).all():
        return "features are finite, got NaN or infinity; the network that made them has diverged"
    return None
