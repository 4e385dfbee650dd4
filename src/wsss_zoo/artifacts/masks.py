"""Label masks as 8-bit palette PNG, and how masks and maps look on top of their image."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.errors import ArtifactError


def _voc_palette() -> npt.NDArray[np.uint8]:
    """Spread the bits of each label over red, green and blue, from the top bit down (VOC devkit)."""
    labels = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        for channel in range(3):
            source_bit = labels >> (3 * bit + channel) & 1
            palette[:, channel] |= (source_bit << (7 - bit)).astype(np.uint8)
    return palette


#: uint8 `(256, 3)`: red, green, blue of label 0..255 in PASCAL VOC; 255 (ignore) is cream.
VOC_PALETTE = _voc_palette()


def save_mask(path: str | os.PathLike[str], mask: npt.NDArray[np.uint8]) -> None:
    """Write a label mask as 8-bit PNG with the VOC palette, atomically.

    Args:
        path: the file to write, ending in ``.png``.
        mask: uint8 `(H, W)`; 0 is background, 255 is ignore.

    Raises:
        ArtifactError: `mask` is not uint8 `(H, W)` or the file could not be written.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8 or mask.size == 0:
        raise ArtifactError(
            f"{path}: a mask is uint8 (H, W) with labels 0..255, got {mask.dtype} {mask.shape}."
        )
    image = Image.fromarray(np.ascontiguousarray(mask))
    image.putpalette(VOC_PALETTE.tobytes())
    with atomic_write(path) as file:
        image.save(file, format="PNG")


def load_mask(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read a label mask; palette and grey images are both read as indices.

    Returns:
        uint8 `(H, W)`.

    Raises:
        ArtifactError: the file is missing, broken, or stores colours or other values than labels.
    """
    path = Path(path)
    pixels, mode = read_image_file(path)
    if mode not in ("P", "L"):
        raise ArtifactError(
            f"{path}: expected a mask of label indices (PNG of mode P or L), got mode {mode}. "
            "A mask saved as colours has to be turned into indices first: label = row of the palette "
            "(wsss_zoo.artifacts.VOC_PALETTE for VOC colours)."
        )
    return pixels.astype(np.uint8, copy=False)


def read_image_file(path: Path) -> tuple[npt.NDArray[np.generic], str]:
    """Read every pixel of an image file that a stage wrote.

    Returns:
        The pixels as Pillow hands them out and Pillow's mode (``P``, ``L``, ``RGB``, ...).

    Raises:
        ArtifactError: the file is missing, truncated or no image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image), image.mode
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file. Run the stage that writes it first.") from None
    # Pillow tells broken chunks as SyntaxError or ValueError, truncated data as OSError
    except (OSError, SyntaxError, ValueError) as error:
        raise ArtifactError(
            f"{path}: broken image file ({error}). Delete it and run again: only it is made anew."
        ) from error


def overlay(
    image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], alpha: float = 0.5
) -> npt.NDArray[np.uint8]:
    """Lay a mask in VOC colours over an image; background pixels stay as they are.

    Args:
        image: uint8 `(H, W, 3)`, RGB.
        mask: uint8 `(H, W)`.
        alpha: share of the colour, 0..1.

    Returns:
        uint8 `(H, W, 3)`.

    Raises:
        ArtifactError: sizes differ.
    """
    _require_same_size(image, mask)
    blended = (1 - alpha) * image + alpha * VOC_PALETTE[mask]
    return np.where(mask[..., None] > 0, np.rint(blended).astype(np.uint8), image)


def heatmap_overlay(
    image: npt.NDArray[np.uint8], map: npt.NDArray[np.floating], alpha: float = 0.5
) -> npt.NDArray[np.uint8]:
    """Lay a localization map over an image, blue (0) over green to red (1).

    Args:
        image: uint8 `(H, W, 3)`, RGB.
        map: float `(H, W)` in [0, 1]; values outside are clipped.
        alpha: share of the colour, 0..1.

    Returns:
        uint8 `(H, W, 3)`.

    Raises:
        ArtifactError: sizes differ.
    """
    # Here and not on top: matplotlib takes a third of a second to import and only pictures need it.
    from matplotlib import colormaps

    _require_same_size(image, map)
    colours = colormaps["jet"](np.clip(map.astype(np.float32), 0, 1))[..., :3] * 255
    return np.rint((1 - alpha) * image + alpha * colours).astype(np.uint8)


def _require_same_size(image: npt.NDArray[np.uint8], plane: npt.NDArray[np.generic]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or plane.shape != image.shape[:2]:
        raise ArtifactError(
            f"an overlay needs an image (H, W, 3) and a mask or map (H, W) of the same size, "
            f"got {image.shape} and {plane.shape}."
        )
