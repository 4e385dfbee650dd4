"""Compressed `.npz` files, written whole or not at all and read without pickle."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.errors import ArtifactError

#: What to do about a file that cannot be used.
REGENERATE = "Delete it and run again: only it is made anew."


def save_arrays(path: str | os.PathLike[str], **arrays: npt.NDArray[np.generic]) -> None:
    """Write arrays under their names.

    Raises:
        ArtifactError: the file could not be written.
    """
    # In memory first: a disk that fills up inside the zip writer would hide the reason.
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def load_arrays(
    path: str | os.PathLike[str], keys: tuple[str, ...], what: str
) -> dict[str, npt.NDArray[np.generic]]:
    """Read arrays by name.

    Args:
        path: the file.
        keys: names that must be there.
        what: what the file is expected to hold, for messages.

    Raises:
        ArtifactError: the file is missing, truncated, or lacks a name.
    """
    path = Path(path)
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("a single array, not an .npz archive")
        with archive:
            missing = set(keys) - set(archive.files)
            if missing:
                raise ValueError(f"keys missing: {', '.join(sorted(missing))}")
            return {key: archive[key] for key in keys}
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file. Run the stage that writes it first.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(
            f"{path}: expected {what} (.npz with {', '.join(keys)}): {error}. {REGENERATE}"
        ) from error


def image_size(path: str | os.PathLike[str], size: npt.NDArray[np.generic]) -> tuple[int, int]:
    """The stored `(H, W)` of an image.

    Raises:
        ArtifactError: it is not two integers.
    """
    if size.shape != (2,) or not np.issubdtype(size.dtype, np.integer):
        raise ArtifactError(
            f"{path}: size is two integers (H, W), got {size.dtype} {size.shape}. {REGENERATE}"
        )
    return int(size[0]), int(size[1])


def classes_fault(classes: npt.NDArray[np.generic]) -> str | None:
    """What is wrong with the class indices of an artifact, or None."""
    if classes.dtype != np.int16 or classes.ndim != 1:
        return f"classes are int16 (K,), got {classes.dtype} {classes.shape}"
    if len(classes) and (classes[0] < 0 or np.any(np.diff(classes) <= 0)):
        return f"classes are 0-based indices in ascending order without repeats, got {classes.tolist()}"
    return None
