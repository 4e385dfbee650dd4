"""Saliency maps as 8-bit grey PNG."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.artifacts.masks import read_image_file
from wsss_zoo.errors import ArtifactError


def save_saliency(path: str | os.PathLike[str], map: npt.NDArray[np.floating]) -> None:
    """Write a saliency map as 8-bit grey PNG (0 = 0.0, 255 = 1.0, rounded), atomically.

    Args:
        path: the file to write, ending in ``.png``.
        map: float `(H, W)` in [0, 1].

    Raises:
        ArtifactError: wrong shape, values outside [0, 1] or not finite, or the file could not be written.
    """
    if map.ndim != 2 or map.size == 0 or not np.issubdtype(map.dtype, np.floating):
        raise ArtifactError(f"{path}: a saliency map is float (H, W), got {map.dtype} {map.shape}.")
    low, high = float(map.min()), float(map.max())
    if not (low >= 0 and high <= 1):  # written this way round so that NaN is refused, too
        raise ArtifactError(f"{path}: saliency lies in [0, 1], got values from {low:g} to {high:g}.")
    grey = np.rint(map.astype(np.float32) * 255).astype(np.uint8)
    with atomic_write(path) as file:
        Image.fromarray(grey).save(file, format="PNG")


def load_saliency(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Read a saliency map.

    Returns:
        float32 `(H, W)` in [0, 1], multiples of 1/255.

    Raises:
        ArtifactError: the file is missing, broken or not 8-bit grey.
    """
    path = Path(path)
    pixels, mode = read_image_file(path)
    if mode != "L":
        raise ArtifactError(f"{path}: expected an 8-bit grey PNG (mode L), got mode {mode}.")
    return pixels.astype(np.float32) / np.float32(255)
