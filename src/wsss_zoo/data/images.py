"""Reading photos and ground-truth masks. Needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.data.sbd import read_sbd_mask
from wsss_zoo.errors import ArtifactError, DataError

#: File name endings, lower case, that are taken for images.
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
#: Label of pixels that neither train nor count.
IGNORE = 255


def read_rgb(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Decode an image completely.

    Grey images are repeated over three channels, palettes are resolved, transparency is dropped. The
    pixels stay as they are stored: a rotation noted in EXIF is not applied, because masks are drawn on
    the stored pixels.

    Returns:
        uint8 `(H, W, 3)`, red, green, blue.

    Raises:
        DataError: the file is missing, truncated, no image, or has more than 8 bits a channel.
    """
    return _decode(Path(path), "RGB")


def read_grey(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Decode a grey map, such as a saliency mask, to one channel.

    Palettes are resolved, colours become their brightness, transparency is dropped; bilevel images
    become 0 and 255.

    Returns:
        uint8 `(H, W)`.

    Raises:
        DataError: the file is missing, truncated, no image, or has more than 8 bits a channel.
    """
    return _decode(Path(path), "L")


def read_ground_truth(path: str | os.PathLike[str], num_classes: int) -> npt.NDArray[np.uint8]:
    """Read a ground-truth mask: an indexed PNG, or SBD's `.mat`.

    Args:
        path: the file.
        num_classes: C, the foreground classes.

    Returns:
        uint8 `(H, W)`: 0 background, 1..C, 255 ignore.

    Raises:
        DataError: the file is missing, broken, stores colours, or has values outside 0..C and 255.
    """
    path = Path(path)
    if path.suffix == ".mat":
        mask = read_sbd_mask(path)
    else:
        if not path.is_file():
            raise DataError(f"{path}: no such ground-truth mask. Restore the file.")
        try:
            mask = load_mask(path)
        except ArtifactError as error:
            # a broken file has Pillow's own words as cause; load_mask's advice is for files of a run
            reason = error.__cause__ if error.__cause__ is not None else str(error).removeprefix(f"{path}: ")
            raise DataError(f"{path}: this ground-truth mask cannot be used: {reason}") from error
    outside = values_outside(mask, num_classes)
    if outside:
        shown = ", ".join(str(value) for value in outside[:8])
        raise DataError(
            f"{path}: expected labels 0 (background), 1..{num_classes} and 255 (ignore), "
            f"found also {shown}. Is it a mask of other classes, or saved as grey levels?"
        )
    return mask


def image_id_of(name: str) -> str:
    """The id in a path or file name: no folders, no image extension (`a/b.v2.jpg` -> `b.v2`)."""
    path = Path(name)
    return path.stem if path.suffix.lower() in IMAGE_EXTENSIONS else path.name


def values_outside(mask: npt.NDArray[np.uint8], num_classes: int) -> list[int]:
    """Values of a mask, ascending, that are neither 0..num_classes nor 255."""
    counts = np.bincount(mask.ravel(), minlength=256)
    return [int(value) for value in np.flatnonzero(counts) if num_classes < value < IGNORE]


def stems(folder: Path, extensions: Iterable[str]) -> dict[str, Path]:
    """Files of a folder by name without extension; empty where the folder is missing.

    Raises:
        DataError: two files differ only in their extension.
    """
    wanted = tuple(extensions)
    found: dict[str, Path] = {}
    if not folder.is_dir():
        return found
    # one listing: asking for 10,582 files one by one takes minutes on a network disk
    for name in sorted(os.listdir(folder)):
        stem, extension = os.path.splitext(name)
        if extension.lower() not in wanted or name.startswith("."):
            continue
        if stem in found:
            raise DataError(
                f"{folder}: {found[stem].name} and {name} differ only in their extension, but results "
                f"are named after '{stem}'. Rename or remove one."
            )
        found[stem] = folder / name
    return found


def _decode(path: Path, mode: str) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            # Pillow would clip 16-bit values at 255 and hand out a white image
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"{path}: expected an image with 8 bits a channel, got Pillow mode {image.mode}. "
                    "Convert it to 8 bits (choose the range that matters) first."
                )
            return np.asarray(image.convert(mode))
    except FileNotFoundError:
        raise DataError(f"{path}: no such image. Restore the file or take it out of the list.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        kind = _kind_by_content(path)
        broken = f"truncated or broken {kind}" if kind else "not an image that Pillow can read"
        raise DataError(f"{path}: {broken} ({error}); delete or re-download it.") from error


def _kind_by_content(path: Path) -> str | None:
    signatures = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"BM": "BMP", b"RIFF": "WebP"}
    with open(path, "rb") as file:
        head = file.read(4)
    return next((kind for start, kind in signatures.items() if head.startswith(start)), None)
